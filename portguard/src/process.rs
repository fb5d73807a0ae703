//! What both programs do first.

use std::io::Write as _;
use std::process::abort;

/// Sets up logging, and what a panic does.
pub fn prepare() {
    abort_on_panic();
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format(|out, record| writeln!(out, "portguard: {}: {}", record.target(), record.args()))
        .init();
}

/// Makes a panic in any thread abort the process after it was reported: a daemon that lost one of its threads is
/// worse than one that is restarted. `panic = "abort"` would do the same, but then the tests would build every
/// dependency twice.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::abort_on_panic;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    /// Set for the process that is to panic.
    const PANIC: &str = "PORTGUARD_TEST_PANIC";

    #[test]
    fn panic_in_any_thread_aborts() -> std::io::Result<()> {
        if std::env::var_os(PANIC).is_some() {
            abort_on_panic();
            let _ = std::thread::spawn(|| panic!("on purpose")).join();
            return Ok(());
        }
        let mut again = Command::new(std::env::current_exe()?);
        again.args(["--exact", "process::tests::panic_in_any_thread_aborts"]);
        let output = again.arg("--nocapture").env(PANIC, "1").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("on purpose"), "{said}");
        assert_eq!(output.status.signal(), Some(6), "{}", output.status);
        Ok(())
    }
}
