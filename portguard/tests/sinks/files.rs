//! The file sink: reopening, full disks, cut lines.

use crate::{LONG, as_child, child, decided, error, open, ports, until};
use portguard::events::sinks::SinkSpec;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn file_sink_completes_a_cut_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let mut sinks = open(SinkSpec::File(path.clone()));
    let mode = path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
    sinks.send(&decided(80, 1));
    sinks.close(LONG);
    // The earlier writer was cut off.
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"{\"port\":81}").unwrap();
    let mut sinks = open(SinkSpec::File(path.clone()));
    sinks.send(&decided(82, 1));
    sinks.close(LONG);
    assert_eq!(ports(&path), [80, 81, 82]);
    assert_eq!(sinks.dropped()["file"], 0);
}

#[test]
fn file_sink_reopens_after_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let old = directory.path().join("decisions.jsonl.1");
    let mut sinks = open(SinkSpec::File(path.clone()));
    sinks.send(&decided(80, 1));
    std::fs::rename(&path, &old).unwrap();
    // Without a reopening it is the same file by another name.
    sinks.send(&decided(81, 1));
    sinks.reopen();
    // With nothing more to write, too.
    until("the new file", || path.exists());
    sinks.send(&decided(82, 1));
    sinks.close(LONG);
    assert_eq!(ports(&old), [80, 81]);
    assert_eq!(ports(&path), [82]);
}

#[test]
fn file_sink_keeps_open_file_if_reopen_fails() {
    const TEST: &str = "files::file_sink_keeps_open_file_if_reopen_fails";
    let Some(directory) = as_child() else {
        let directory = tempfile::tempdir().unwrap();
        let output = child(&[], TEST, directory.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let path = directory.path().join("logs/decisions.jsonl");
        let expected = format!(
            "portguard: sink file: cannot reopen {}: No such file or directory (os error 2); decisions \
             still go to the open file; fix the path and send SIGUSR1 again\n",
            path.display()
        );
        assert_eq!(said, expected);
        assert!(output.status.success());
        return;
    };
    let logs = directory.join("logs");
    std::fs::create_dir(&logs).unwrap();
    let mut sinks = open(SinkSpec::File(logs.join("decisions.jsonl")));
    std::fs::rename(&logs, directory.join("away")).unwrap();
    sinks.reopen();
    sinks.send(&decided(80, 1));
    sinks.close(LONG);
    assert_eq!(ports(&directory.join("away/decisions.jsonl")), [80]);
    assert_eq!(sinks.dropped()["file"], 0);
}

/// Rotation moves the file away; who puts a link in its place does not choose where root writes.
#[test]
fn file_sink_refuses_link_at_reopen() {
    const TEST: &str = "files::file_sink_refuses_link_at_reopen";
    let Some(directory) = as_child() else {
        let directory = tempfile::tempdir().unwrap();
        let output = child(&[], TEST, directory.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let path = directory.path().join("decisions.jsonl");
        let expected = format!(
            "portguard: sink file: cannot reopen {}: it is a symbolic link, which is not followed: remove it, or \
             name the file that it leads to; decisions still go to the open file; fix the path and send SIGUSR1 \
             again\n",
            path.display()
        );
        assert_eq!(said, expected);
        assert!(output.status.success());
        return;
    };
    let path = directory.join("decisions.jsonl");
    let mut sinks = open(SinkSpec::File(path.clone()));
    std::fs::rename(&path, directory.join("old")).unwrap();
    let target = directory.join("target");
    std::fs::write(&target, "kept").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    sinks.reopen();
    sinks.send(&decided(80, 1));
    sinks.close(LONG);
    assert_eq!(ports(&directory.join("old")), [80]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
}

#[test]
fn file_sink_refuses_file_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.jsonl");
    let refused = |why: &str| {
        let expected = format!("--sink file:{}: {why}", path.display());
        assert_eq!(error(&[SinkSpec::File(path.clone())]), expected);
    };
    let target = directory.path().join("target");
    std::fs::write(&target, "").unwrap();
    std::fs::hard_link(&target, &path).unwrap();
    refused("it has another name (a hard link): remove it");
    std::fs::remove_file(&target).unwrap();
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
        refused("it belongs to uid 65534: remove it or `chown root` it");
    }
}

#[test]
fn file_sink_reports_full_device_once() {
    const TEST: &str = "files::file_sink_reports_full_device_once";
    if as_child().is_none() {
        let directory = tempfile::tempdir().unwrap();
        let output = child(&[], TEST, directory.path()).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "portguard: sink file: cannot write decisions: No space left on device (os error 28); they are \
             counted as dropped until it works again, enforcement goes on\n"
        );
        assert!(output.status.success());
        return;
    }
    let mut sinks = open(SinkSpec::File("/dev/full".into()));
    for _ in 0..1_000 {
        sinks.send(&decided(80, 3));
    }
    sinks.close(LONG);
    assert_eq!(sinks.dropped()["file"], 3_000);
}

/// A disk of 64 KiB, mounted in a namespace that ends with the process.
#[test]
fn file_sink_keeps_lines_whole_on_full_disk() {
    const TEST: &str = "files::file_sink_keeps_lines_whole_on_full_disk";
    let Some(directory) = as_child() else {
        let directory = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs -o size=64k tmpfs {} && exec \"$@\"",
            directory.path().display()
        );
        let own = ["unshare", "-rm", "sh", "-c", &script, "sh"];
        let output = child(&own, TEST, directory.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].contains("cannot write decisions: No space left on device"));
        assert!(lines[1].starts_with("portguard: sink file: works again, "));
        return;
    };
    let ballast = directory.join("ballast");
    std::fs::write(&ballast, vec![0; 40 << 10]).unwrap();
    let path = directory.join("decisions.jsonl");
    let mut sinks = open(SinkSpec::File(path.clone()));
    for port in 0..100 {
        sinks.send(&decided(port, 2));
    }
    until("a full disk", || sinks.dropped()["file"] > 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.ends_with('\n'), "the disk must be full inside a line");
    let dropped = |sinks: &portguard::events::sinks::Sinks| sinks.dropped()["file"] / 2;
    until("the last", || {
        let whole = text.lines().count() as u64;
        dropped(&sinks) + whole == 100
    });
    std::fs::remove_file(&ballast).unwrap();
    sinks.send(&decided(1_000, 2));
    sinks.close(LONG);
    let ports = ports(&path);
    assert_eq!(ports.len() as u64 + dropped(&sinks), 101);
    assert_eq!(ports.last(), Some(&1_000));
    let kept = ports.len() as u64 - 1;
    assert!(ports.iter().take(ports.len() - 1).copied().eq(0..kept));
}
