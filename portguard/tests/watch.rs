//! Changes of policy files are seen, however they come about: real directories, real inotify.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use portguard::policy::{SystemNames, load};
use portguard::watch::{LIMIT, PolicyWatch, SETTLE, fingerprint};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::time::timeout;

/// Far more than any change takes; a change that is not seen is waited for this long.
const DEADLINE: Duration = Duration::from_secs(60);

const ONE: &str = "version: 1\nrules: [{ name: one, action: allow, ports: [80] }]\n";
const TWO: &str = "version: 1\nrules: [{ name: two, action: allow, ports: [443] }]\n";

/// A watched policy, and what its files said when a change was last looked at.
struct Eye {
    paths: Vec<PathBuf>,
    watch: PolicyWatch,
    runtime: tokio::runtime::Runtime,
}

impl Eye {
    fn on(path: impl AsRef<Path>) -> Self {
        Self::on_all(&[path.as_ref().to_owned()])
    }

    fn on_all(paths: &[PathBuf]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let watch = runtime.block_on(async { PolicyWatch::new(paths) }).unwrap();
        Self {
            paths: paths.to_vec(),
            watch,
            runtime,
        }
    }

    /// Whether a change is told within `time`.
    fn told(&mut self, time: Duration) -> bool {
        let changed = async { timeout(time, self.watch.changed()).await.is_ok() };
        self.runtime.block_on(changed)
    }

    /// What was done since is told once, and the policy says something else.
    #[track_caller]
    fn sees(&mut self, what: &str, change: impl FnOnce()) {
        let before = fingerprint(&self.paths);
        change();
        assert!(self.told(DEADLINE), "not seen: {what}");
        assert_ne!(before, fingerprint(&self.paths), "the same after: {what}");
    }

    /// What was done makes no reload: it is not told, or the policy says what it said.
    #[track_caller]
    fn ignores(&mut self, what: &str, change: impl FnOnce()) {
        let before = fingerprint(&self.paths);
        change();
        self.told(SETTLE * 3);
        assert_eq!(before, fingerprint(&self.paths), "other after: {what}");
    }

    /// What was done does not even wake the daemon's reader.
    #[track_caller]
    fn sleeps_through(&mut self, what: &str, change: impl FnOnce()) {
        change();
        assert!(!self.told(SETTLE * 3), "told: {what}");
    }

    /// The names of the rules as the files are now.
    fn rules(&self) -> Vec<String> {
        let loaded = load(&self.paths, &SystemNames).unwrap();
        loaded
            .policy
            .rules
            .iter()
            .map(|rule| rule.name.clone())
            .collect()
    }
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// As editors and deployments do it: another file under the same name.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

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

#[test]
fn what_is_not_the_policys() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = |name: &str| directory.path().join(name);
    let mut eye = Eye::on(directory.path());
    eye.sleeps_through("editors' and others' files", || {
        for name in [".web.yaml.swp", "4913", "web.yaml~", "notes.txt"] {
            fs::write(path(name), ONE).unwrap();
        }
        fs::remove_file(path("4913")).unwrap();
        fs::create_dir(path("below")).unwrap();
        fs::write(path("below/web.yaml"), TWO).unwrap();
    });
    eye.sleeps_through("reading", || drop(fs::read(path("web.yaml")).unwrap()));
    let mut of_file = Eye::on(path("web.yaml"));
    of_file.sleeps_through("another policy in the file's directory", || {
        fs::write(path("other.yaml"), TWO).unwrap();
    });
}

#[test]
fn nothing_but_names_and_contents_counts() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    eye.ignores("touched", || {
        let touched = fs::File::options().append(true).open(&file).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    });
    eye.ignores("another mode", || {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    });
    eye.ignores("written as it was", || fs::write(&file, ONE).unwrap());
    eye.ignores("replaced by the same", || replace(&file, ONE));
    eye.ignores("gone and back", || {
        fs::remove_file(&file).unwrap();
        fs::write(&file, ONE).unwrap();
    });
}

#[test]
fn a_fingerprint_tells_names_texts_and_errors() {
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

#[test]
fn a_half_written_file_is_told_again_when_it_is_whole() {
    let directory = directory(&[("web.yaml", ONE)]);
    let path = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    let (half, rest) = TWO.split_at(TWO.len() - 8);
    let mut file = fs::File::create(&path).unwrap();
    eye.sees("half of it", || file.write_all(half.as_bytes()).unwrap());
    assert!(load(&eye.paths, &SystemNames).is_err());
    eye.sees("the rest", || file.write_all(rest.as_bytes()).unwrap());
    assert_eq!(eye.rules(), ["two"]);
    eye.ignores("closed", || drop(file));
}

#[test]
fn several_steps_are_told_once() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    eye.sees("a hundred writes", || {
        for number in 0..100 {
            fs::write(&file, format!("{ONE}# {number}\n")).unwrap();
        }
    });
    assert!(!eye.told(SETTLE * 3), "told twice");
}

#[test]
fn a_writer_without_end_does_not_starve_the_reader() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !done.load(Ordering::Relaxed) {
                fs::write(&file, format!("{ONE}# {number}\n")).unwrap();
                number += 1;
            }
        });
        let twice = eye.told(LIMIT + DEADLINE) && eye.told(LIMIT + DEADLINE);
        done.store(true, Ordering::Relaxed);
        assert!(twice, "starved");
    });
}

#[test]
fn a_caller_that_gives_up_waiting_loses_nothing() {
    let directory = directory(&[("web.yaml", ONE)]);
    let file = directory.path().join("web.yaml");
    let mut eye = Eye::on(directory.path());
    fs::write(&file, TWO).unwrap();
    let until = std::time::Instant::now() + DEADLINE;
    // Each time far less than a change takes to settle.
    while !eye.told(SETTLE / 20) {
        assert!(std::time::Instant::now() < until, "lost");
    }
}

#[test]
fn events_that_the_queue_cannot_hold() {
    let directory = directory(&[("web.yaml", ONE)]);
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    fs::write(&a, "").unwrap();
    let mut eye = Eye::on(directory.path());
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // None of these concerns the policy; that there were more of them than the kernel keeps does.
    for _ in 0..=queue.trim().parse::<u32>().unwrap() / 4 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    assert!(eye.told(DEADLINE), "the overflow was not told");
    eye.sees("written after it", || {
        fs::write(directory.path().join("web.yaml"), TWO).unwrap();
    });
}
