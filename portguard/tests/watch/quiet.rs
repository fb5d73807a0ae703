//! What is not a change of the policy.

use crate::watched_policy::{ONE, TWO, WatchedPolicy, directory, replace};
use portguard::watch::fingerprint;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

#[test]
fn watch_ignores_other_files() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = |name: &str| directory.path().join(name);
    let mut watched = WatchedPolicy::open(directory.path());
    watched.stays_silent("editors' and others' files", || {
        for name in [".web.yaml.swp", "4913", "web.yaml~", "notes.txt"] {
            fs::write(path(name), ONE).unwrap();
        }
        fs::remove_file(path("4913")).unwrap();
        fs::create_dir(path("below")).unwrap();
        fs::write(path("below/web.yaml"), TWO).unwrap();
    });
    watched.stays_silent("reading", || drop(fs::read(path("web.yaml")).unwrap()));
    let mut of_file = WatchedPolicy::open(path("web.yaml"));
    of_file.stays_silent("another policy in the file's directory", || {
        fs::write(path("other.yaml"), TWO).unwrap();
    });
}

#[test]
fn watch_ignores_changes_of_metadata() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(directory.path());
    watched.ignores("touched", || {
        let touched = fs::File::options().append(true).open(&file).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    });
    watched.ignores("another mode", || {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    });
    watched.ignores("written as it was", || fs::write(&file, ONE).unwrap());
    watched.ignores("replaced by the same", || replace(&file, ONE));
    watched.ignores("gone and back", || {
        fs::remove_file(&file).unwrap();
        fs::write(&file, ONE).unwrap();
    });
}

#[test]
fn fingerprint_depends_on_names_texts_and_errors() {
    let directory = directory(&[("a.yaml", "1"), ("b.yaml", "2")]);
    let path = |name: &str| directory.path().join(name);
    let now = || fingerprint(&[directory.path().to_owned()]);
    let mut seen = vec![now()];
    let mut other = |what: &str| {
        assert!(!seen.contains(&now()), "{what}");
        seen.push(now());
    };
    fs::write(path("a.yaml"), "2").unwrap();
    fs::write(path("b.yaml"), "1").unwrap();
    other("the texts changed places");
    fs::rename(path("b.yaml"), path("c.yaml")).unwrap();
    other("another name");
    fs::write(path("c.yaml"), [0xff]).unwrap();
    other("not UTF-8");
    fs::remove_file(path("c.yaml")).unwrap();
    fs::create_dir(path("c.yaml")).unwrap();
    other("not a file");
    fs::remove_dir(path("c.yaml")).unwrap();
    fs::remove_file(path("a.yaml")).unwrap();
    other("no file");
    let gone = directory.path().to_owned();
    drop(directory);
    assert!(!seen.contains(&fingerprint(&[gone])), "no directory");
}
