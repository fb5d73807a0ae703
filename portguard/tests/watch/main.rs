//! Changes of policy files are reported however they are made: real directories, real inotify.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

mod limits;
mod quiet;
mod timing;
mod watched_policy;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use watched_policy::{ONE, TWO, WatchedPolicy, directory, replace};

#[test]
fn watch_reports_a_file_written_in_place_and_replaced() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut watched = WatchedPolicy::open(&file);
    watched.reports("written", || fs::write(&file, TWO).unwrap());
    watched.reports("renamed over", || replace(&file, ONE));
    watched.reports("the new file written", || fs::write(&file, TWO).unwrap());
    watched.reports("truncated", || {
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(0)
            .unwrap();
    });
    watched.reports("deleted", || fs::remove_file(&file).unwrap());
    watched.reports("created", || fs::write(&file, ONE).unwrap());
    assert_eq!(watched.rules(), ["one"]);
}

#[test]
fn watch_reports_files_of_a_directory() {
    let directory = directory(&[("10-web.yaml", ONE)]);
    let path = |name: &str| directory.path().join(name);
    let mut watched = WatchedPolicy::open(directory.path());
    watched.reports("a new file", || fs::write(path("20-db.yml"), TWO).unwrap());
    assert_eq!(watched.rules(), ["one", "two"]);
    watched.reports("another order", || {
        fs::rename(path("20-db.yml"), path("00-db.yml")).unwrap();
    });
    assert_eq!(watched.rules(), ["two", "one"]);
    watched.reports("a file moved in", || {
        let elsewhere = tempfile::tempdir_in(directory.path().parent().unwrap()).unwrap();
        let file = elsewhere.path().join("x");
        fs::write(&file, "version: 1\n").unwrap();
        fs::rename(file, path("30.yaml")).unwrap();
    });
    watched.reports("a file removed", || {
        fs::remove_file(path("00-db.yml")).unwrap();
    });
    watched.reports("written", || fs::write(path("10-web.yaml"), TWO).unwrap());
    assert_eq!(watched.rules(), ["two"]);
}

#[test]
fn watch_follows_a_directory_removed_and_recreated() {
    let above = tempfile::tempdir().unwrap();
    let policies = above.path().join("etc/policies");
    let file = policies.join("web.yaml");
    fs::create_dir_all(&policies).unwrap();
    fs::write(&file, ONE).unwrap();
    let mut watched = WatchedPolicy::open(&policies);
    watched.reports("removed", || fs::remove_dir_all(&policies).unwrap());
    watched.reports("back", || {
        fs::create_dir(&policies).unwrap();
        fs::write(&file, ONE).unwrap();
    });
    watched.reports("written there", || fs::write(&file, TWO).unwrap());
    watched.reports("removed with what is above it", || {
        fs::remove_dir_all(above.path().join("etc")).unwrap();
    });
    watched.ignores("half of the path", || {
        fs::create_dir(above.path().join("etc")).unwrap();
    });
    watched.reports("all of the path", || {
        fs::create_dir(&policies).unwrap();
        fs::write(&file, ONE).unwrap();
    });
    watched.reports("the path moved away, another in its place", || {
        fs::rename(above.path().join("etc"), above.path().join("old")).unwrap();
        fs::create_dir_all(&policies).unwrap();
        fs::write(&file, TWO).unwrap();
    });
    watched.stays_silent("the old directory is not the policy's any more", || {
        fs::write(above.path().join("old/policies/web.yaml"), TWO).unwrap();
    });
    watched.reports("written there", || fs::write(&file, ONE).unwrap());
    assert_eq!(watched.rules(), ["one"]);
}

#[test]
fn watch_reports_paths_created_later() {
    let above = tempfile::tempdir().unwrap();
    let later = above.path().join("a/b/c.yaml");
    let mut watched = WatchedPolicy::open(&later);
    watched.reports("made with all above it", || {
        fs::create_dir_all(later.parent().unwrap()).unwrap();
        fs::write(&later, ONE).unwrap();
    });
    watched.reports("written", || fs::write(&later, TWO).unwrap());
}

/// Writes a volume as the kubelet does: <https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter>.
fn config_map(volume: &Path, version: &str, files: &[(&str, &str)]) {
    let before = fs::read_link(volume.join("..data")).ok();
    let payload = volume.join(version);
    fs::create_dir(&payload).unwrap();
    for (name, text) in files {
        fs::write(payload.join(name), text).unwrap();
    }
    symlink(version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    let names = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    for entry in fs::read_dir(volume).unwrap().map(Result::unwrap) {
        let name = names(&entry);
        if !name.starts_with("..") && files.iter().all(|(file, _)| *file != name) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    if let Some(before) = before {
        fs::remove_dir_all(volume.join(before)).unwrap();
    }
}

#[test]
fn watch_follows_kubernetes_config_maps() {
    let volume = tempfile::tempdir().unwrap();
    config_map(volume.path(), "..2026_1", &[("web.yaml", ONE)]);
    let mut whole = WatchedPolicy::open(volume.path());
    let mut file = WatchedPolicy::open(volume.path().join("web.yaml"));
    whole.reports("another version", || {
        file.reports("another version, by the file's path", || {
            config_map(volume.path(), "..2026_2", &[("web.yaml", TWO)]);
        });
    });
    whole.reports("the version after", || {
        file.reports("the version after, by the file's path", || {
            config_map(volume.path(), "..2026_3", &[("web.yaml", ONE)]);
        });
    });
    whole.reports("a key more", || {
        let files = [("db.yaml", TWO), ("web.yaml", ONE)];
        config_map(volume.path(), "..2026_4", &files);
    });
    assert_eq!(whole.rules(), ["two", "one"]);
    whole.reports("a key less", || {
        config_map(volume.path(), "..2026_5", &[("db.yaml", TWO)]);
    });
    assert_eq!(whole.rules(), ["two"]);
    whole.ignores("another version of the same", || {
        config_map(volume.path(), "..2026_6", &[("db.yaml", TWO)]);
    });
}

#[test]
fn watch_follows_symlinks_anywhere_in_the_path() {
    let above = tempfile::tempdir().unwrap();
    let path = |name: &str| above.path().join(name);
    for (name, text) in [("srv/a", ONE), ("srv/b", TWO)] {
        fs::create_dir_all(path(name).join("policies")).unwrap();
        fs::write(path(name).join("policies/web.yaml"), text).unwrap();
    }
    fs::create_dir(path("etc")).unwrap();
    // etc/portguard -> ../hop -> srv/a (absolute), then back by `..`.
    symlink(path("srv/a"), path("hop")).unwrap();
    symlink("../hop", path("etc/portguard")).unwrap();
    let mut watched = WatchedPolicy::open(path("etc/portguard/policies/../policies"));
    watched.reports("the second link led elsewhere", || {
        symlink(path("srv/b"), path("next")).unwrap();
        fs::rename(path("next"), path("hop")).unwrap();
    });
    assert_eq!(watched.rules(), ["two"]);
    watched.reports("written where it leads now", || {
        fs::write(path("srv/b/policies/web.yaml"), ONE).unwrap();
    });
    watched.stays_silent("where it led before", || {
        fs::write(path("srv/a/policies/web.yaml"), TWO).unwrap();
    });
    watched.reports("the first link led elsewhere", || {
        fs::remove_file(path("etc/portguard")).unwrap();
        symlink("../srv/a", path("etc/portguard")).unwrap();
    });
    assert_eq!(watched.rules(), ["two"]);
}

#[test]
fn watch_follows_dangling_and_circular_symlinks() {
    let above = tempfile::tempdir().unwrap();
    let path = |name: &str| above.path().join(name);
    symlink("b", path("a")).unwrap();
    symlink("a", path("b")).unwrap();
    symlink("later/web.yaml", path("dangling")).unwrap();
    let mut round = WatchedPolicy::open(path("a"));
    let mut dangling = WatchedPolicy::open(path("dangling"));
    round.reports("the loop was cut", || {
        fs::remove_file(path("b")).unwrap();
        fs::write(path("b"), ONE).unwrap();
    });
    dangling.reports("what the link leads to came", || {
        fs::create_dir(path("later")).unwrap();
        fs::write(path("later/web.yaml"), ONE).unwrap();
    });
}
