//! Errors where the kernel cannot watch the files.

use crate::watched_policy::{ONE, TWO, WatchedPolicy, directory};
use portguard::watch::{PolicyWatch, WatchError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// Runs one of these tests again in a process of its own, so that the limits it sets affect no other test.
fn alone(test: &str, wrapper: &[&str]) {
    let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    let program = std::env::current_exe().unwrap();
    words.extend([program.as_os_str(), "--exact".as_ref(), test.as_ref()]);
    let (first, rest) = words.split_first().unwrap();
    let output = Command::new(first)
        .args(rest)
        .env(ALONE, "1")
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && output_text.contains("1 passed"),
        "{output_text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const ALONE: &str = "PORTGUARD_TEST_ALONE";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs a command in a user namespace, in which this user can set the limits of inotify.
const NAMESPACE: &[&str] = &["unshare", "--user", "--map-root-user"];

fn namespaces() -> bool {
    let (program, args) = NAMESPACE.split_first().unwrap();
    let made = Command::new(program).args(args).arg("true").output();
    let can = made.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: cannot make a user namespace");
    }
    can
}

fn limit(name: &str, value: usize) {
    fs::write(format!("/proc/sys/user/{name}"), value.to_string()).unwrap();
}

/// The error of watching a path.
fn refused(path: &Path) -> WatchError {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let paths = [path.to_owned()];
    let made = runtime.block_on(async { PolicyWatch::new(&paths).map(drop) });
    made.unwrap_err()
}

#[test]
fn watch_error_without_descriptors() {
    if !is_alone() {
        return alone("limits::watch_error_without_descriptors", &[]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let none = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let made = runtime.block_on(async { PolicyWatch::new(&["/".into()]).map(drop) });
    assert_eq!(
        made.unwrap_err().to_string(),
        "cannot watch the policy's files: no inotify instance is left (Too many open files (os error 24)): \
         raise the sysctl fs.inotify.max_user_instances or the limit of open files (ulimit -n)"
    );
}

#[test]
fn watch_error_without_inotify_instances() {
    if !is_alone() {
        if namespaces() {
            alone("limits::watch_error_without_inotify_instances", NAMESPACE);
        }
        return;
    }
    limit("max_inotify_instances", 0);
    assert!(matches!(
        refused(Path::new("/")),
        WatchError::Instances(error) if error.raw_os_error() == Some(24)
    ));
}

#[test]
fn watch_error_without_inotify_watches() {
    if !is_alone() {
        if namespaces() {
            alone("limits::watch_error_without_inotify_watches", NAMESPACE);
        }
        return;
    }
    let kept = directory(&[("web.yaml", ONE)]);
    let above = kept.path().canonicalize().unwrap();
    let path = |name: &str| above.join(name);
    // As many as the path to the directory takes, itself included.
    limit("max_inotify_watches", above.ancestors().count());
    fs::create_dir_all(path("deeper/still")).unwrap();
    assert_eq!(
        refused(&path("deeper/still")).to_string(),
        format!(
            "cannot watch {}: no inotify watch is left (No space left on device (os error 28)): raise the sysctl \
             fs.inotify.max_user_watches",
            path("deeper").display()
        )
    );
    let mut watched = WatchedPolicy::open(&above);
    assert!(watched.watch.problem().is_none());
    fs::write(path("deeper/db"), TWO).unwrap();
    watched.reports("a link to where nothing can be watched", || {
        symlink("deeper/db", path("db.yaml")).unwrap();
    });
    assert!(matches!(
        watched.watch.problem(),
        Some(WatchError::Watches { .. })
    ));
    watched.reports("what is watched still", || {
        fs::write(path("web.yaml"), TWO).unwrap();
    });
    watched.reports("the link gone", || {
        fs::remove_file(path("db.yaml")).unwrap();
    });
    assert!(watched.watch.problem().is_none());
}

#[test]
fn watch_error_on_unreadable_directory() {
    // In a namespace that maps no user, root cannot bypass file permissions.
    let nobody = &NAMESPACE[..2];
    if !is_alone() {
        if namespaces() {
            alone("limits::watch_error_on_unreadable_directory", nobody);
        }
        return;
    }
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("closed");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o300)).unwrap();
    assert_eq!(
        refused(&path.join("web.yaml")).to_string(),
        format!(
            "cannot watch {}: Permission denied (os error 13): portguard must be able to read it",
            path.display()
        )
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn watch_errors_name_the_cause() {
    assert_eq!(
        refused(Path::new("")).to_string(),
        "cannot watch \"\": cannot make an empty path absolute: give an absolute path"
    );
    let error = || io::Error::from(io::ErrorKind::Unsupported);
    assert_eq!(
        WatchError::Inotify(error()).to_string(),
        "cannot watch the policy's files: unsupported"
    );
    assert_eq!(
        WatchError::Register(error()).to_string(),
        "cannot wait for changes of the policy's files: unsupported"
    );
}
