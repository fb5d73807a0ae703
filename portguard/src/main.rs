//! The `portguard` command.

use std::process::{ExitCode, abort};

fn main() -> ExitCode {
    abort_on_panic();
    portguard::cli::main()
}

/// Has a panic of any thread end the process, once it was told: a daemon that has lost one of its parts is worse
/// than one that is started again. This is what `panic = "abort"` would do, for which the tests would have to build
/// every dependency a second time.
fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
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
    fn a_panic_of_any_thread_is_the_end() -> std::io::Result<()> {
        if std::env::var_os(PANIC).is_some() {
            abort_on_panic();
            let _ = std::thread::spawn(|| panic!("on purpose")).join();
            return Ok(());
        }
        let mut again = Command::new(std::env::current_exe()?);
        again.args(["--exact", "tests::a_panic_of_any_thread_is_the_end"]);
        let output = again.arg("--nocapture").env(PANIC, "1").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("on purpose"), "{said}");
        assert_eq!(output.status.signal(), Some(6), "{}", output.status);
        Ok(())
    }
}
