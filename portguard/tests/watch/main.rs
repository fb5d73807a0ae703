//! Changes of policy files are seen, however they come about: real directories, real inotify.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

mod eye;
mod limits;
mod quiet;
mod timing;

use eye::{Eye, ONE, TWO, directory, replace};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

#[test]
fn a_file_written_in_place_and_replaced() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(&file);
    eye.sees("written", || fs::write(&file, TWO).unwrap());
    eye.sees("renamed over", || replace(&file, ONE));
    eye.sees("the new file written", || fs::write(&file, TWO).unwrap());
    eye.sees("truncated", || {
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(0)
            .unwrap();
    });
    eye.sees("deleted", || fs::remove_file(&file).unwrap());
    eye.sees("created", || fs::write(&file, ONE).unwrap());
    assert_eq!(eye.rules(), ["one"]);
}

#[test]
fn the_files_of_a_directory() {
    let directory = directory(&[("10-web.yaml", ONE)]);
    let path = |name: &str| directory.path().join(name);
    let mut eye = Eye::on(directory.path());
    eye.sees("a new file", || fs::write(path("20-db.yml"), TWO).unwrap());
    assert_eq!(eye.rules(), ["one", "two"]);
    eye.sees("another order", || {
        fs::rename(path("20-db.yml"), path("00-db.yml")).unwrap();
    });
    assert_eq!(eye.rules(), ["two", "one"]);
    eye.sees("a file moved in", || {
        let elsewhere = tempfile::tempdir_in(directory.path().parent().unwrap()).unwrap();
        let file = elsewhere.path().join("x");
        fs::write(&file, "version: 1\n").unwrap();
        fs::rename(file, path("30.yaml")).unwrap();
    });
    eye.sees("a file removed", || {
        fs::remove_file(path("00-db.yml")).unwrap();
    });
    eye.sees("written", || fs::write(path("10-web.yaml"), TWO).unwrap());
    assert_eq!(eye.rules(), ["two"]);
}

#[test]
fn a_directory_that_goes_and_comes_back() {
    let above = tempfile::tempdir().unwrap();
    let policies = above.path().join("etc/policies");
    let file = policies.join("web.yaml");
    fs::create_dir_all(&policies).unwrap();
    fs::write(&file, ONE).unwrap();
    let mut eye = Eye::on(&policies);
    eye.sees("removed", || fs::remove_dir_all(&policies).unwrap());
    eye.sees("back", || {
        fs::create_dir(&policies).unwrap();
        fs::write(&file, ONE).unwrap();
    });
    eye.sees("written there", || fs::write(&file, TWO).unwrap());
    eye.sees("removed with what is above it", || {
        fs::remove_dir_all(above.path().join("etc")).unwrap();
    });
    eye.ignores("half of the way", || {
        fs::create_dir(above.path().join("etc")).unwrap();
    });
    eye.sees("all of the way", || {
        fs::create_dir(&policies).unwrap();
        fs::write(&file, ONE).unwrap();
    });
    eye.sees("the way moved off, another put there", || {
        fs::rename(above.path().join("etc"), above.path().join("old")).unwrap();
        fs::create_dir_all(&policies).unwrap();
        fs::write(&file, TWO).unwrap();
    });
    eye.sleeps_through("what the old place holds is not the policy's", || {
        fs::write(above.path().join("old/policies/web.yaml"), TWO).unwrap();
    });
    eye.sees("written there", || fs::write(&file, ONE).unwrap());
    assert_eq!(eye.rules(), ["one"]);
}

#[test]
fn paths_that_do_not_exist_yet() {
    let above = tempfile::tempdir().unwrap();
    let later = above.path().join("a/b/c.yaml");
    let mut eye = Eye::on(&later);
    eye.sees("made with all above it", || {
        fs::create_dir_all(later.parent().unwrap()).unwrap();
        fs::write(&later, ONE).unwrap();
    });
    eye.sees("written", || fs::write(&later, TWO).unwrap());
}

/// As the kubelet does it: <https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter>.
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
fn a_config_map_of_kubernetes() {
    let volume = tempfile::tempdir().unwrap();
    config_map(volume.path(), "..2026_1", &[("web.yaml", ONE)]);
    let mut whole = Eye::on(volume.path());
    let mut file = Eye::on(volume.path().join("web.yaml"));
    whole.sees("another version", || {
        file.sees("another version, by the file's path", || {
            config_map(volume.path(), "..2026_2", &[("web.yaml", TWO)]);
        });
    });
    whole.sees("the version after", || {
        file.sees("the version after, by the file's path", || {
            config_map(volume.path(), "..2026_3", &[("web.yaml", ONE)]);
        });
    });
    whole.sees("a key more", || {
        let files = [("db.yaml", TWO), ("web.yaml", ONE)];
        config_map(volume.path(), "..2026_4", &files);
    });
    assert_eq!(whole.rules(), ["two", "one"]);
    whole.sees("a key less", || {
        config_map(volume.path(), "..2026_5", &[("db.yaml", TWO)]);
    });
    assert_eq!(whole.rules(), ["two"]);
    whole.ignores("another version of the same", || {
        config_map(volume.path(), "..2026_6", &[("db.yaml", TWO)]);
    });
}

#[test]
fn links_anywhere_on_the_way() {
    let above = tempfile::tempdir().unwrap();
    let path = |name: &str| above.path().join(name);
    for (name, text) in [("srv/a", ONE), ("srv/b", TWO)] {
        fs::create_dir_all(path(name).join("policies")).unwrap();
        fs::write(path(name).join("policies/web.yaml"), text).unwrap();
    }
    fs::create_dir(path("etc")).unwrap();
    // etc/portguard -> ../hop -> srv/a (absolute), and a way back by `..` after that.
    symlink(path("srv/a"), path("hop")).unwrap();
    symlink("../hop", path("etc/portguard")).unwrap();
    let mut eye = Eye::on(path("etc/portguard/policies/../policies"));
    eye.sees("the second link led elsewhere", || {
        symlink(path("srv/b"), path("next")).unwrap();
        fs::rename(path("next"), path("hop")).unwrap();
    });
    assert_eq!(eye.rules(), ["two"]);
    eye.sees("written where it leads now", || {
        fs::write(path("srv/b/policies/web.yaml"), ONE).unwrap();
    });
    eye.sleeps_through("where it led before", || {
        fs::write(path("srv/a/policies/web.yaml"), TWO).unwrap();
    });
    eye.sees("the first link led elsewhere", || {
        fs::remove_file(path("etc/portguard")).unwrap();
        symlink("../srv/a", path("etc/portguard")).unwrap();
    });
    assert_eq!(eye.rules(), ["two"]);
}

#[test]
fn links_that_lead_nowhere_or_round() {
    let above = tempfile::tempdir().unwrap();
    let path = |name: &str| above.path().join(name);
    symlink("b", path("a")).unwrap();
    symlink("a", path("b")).unwrap();
    symlink("later/web.yaml", path("dangling")).unwrap();
    let mut round = Eye::on(path("a"));
    let mut dangling = Eye::on(path("dangling"));
    round.sees("the loop was cut", || {
        fs::remove_file(path("b")).unwrap();
        fs::write(path("b"), ONE).unwrap();
    });
    dangling.sees("what the link leads to came", || {
        fs::create_dir(path("later")).unwrap();
        fs::write(path("later/web.yaml"), ONE).unwrap();
    });
}
