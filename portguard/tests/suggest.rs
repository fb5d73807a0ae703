//! `portguard suggest`: its policy is good by `check --strict`, and allows all that it was made from.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use portguard_common::{Protocol, Verdict};
use portguard_policy::analysis::lint::{Host, lint};
use portguard_policy::compile::{Bind, compile};
use portguard_policy::policy::{SystemNames, parse};
use portguard_policy::suggest::{Demand, owner_of, policy};
use portguard_policy::yaml::DefaultName;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

const PATHS: [&str; 9] = [
    "/",
    "/system.slice/nginx.service",
    "/system.slice/nginx.service/worker",
    "/system.slice/odd\\x2dname@1.service",
    "/system.slice/docker-0123456789ab.scope",
    "/user.slice/user-1000.slice/user@1000.service/app.slice",
    "/kubepods/pod-1/main",
    "/kubepods/pod-1/\u{202e}side",
    "/a*b/c",
];

#[derive(Clone, Debug)]
struct Seen {
    path: &'static str,
    uids: [u32; 2],
    port: u16,
    protocol: Protocol,
}

fn seen() -> impl Strategy<Value = Seen> {
    let uid = prop_oneof![4 => 0u32..4, 4 => 1000u32..1004, 1 => 0..u32::MAX];
    let port = prop_oneof![6 => 79u16..84, 3 => 1020u16..1030, 1 => 1..=u16::MAX];
    let same = any::<bool>();
    (
        proptest::sample::select(&PATHS),
        uid.clone(),
        uid,
        same,
        port,
        0..4u8,
    )
        .prop_map(|(path, uid, other, same, port, protocol)| Seen {
            path,
            uids: [uid, if same { uid } else { other }],
            port,
            protocol: Protocol::from_index(protocol).unwrap(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_was_seen_is_allowed(seen in proptest::collection::vec(seen(), 0..40)) {
        let demand = |seen: &Seen| Demand {
            who: owner_of(Some(seen.path)),
            uids: seen.uids,
            port: seen.port,
            protocol: seen.protocol,
            address: None,
            cgroup: None,
            count: 1,
            from: "a\nb # c".into(),
        };
        let demands: Vec<Demand> = seen.iter().map(demand).collect();
        let names = |uid: u32| (uid == 0).then(|| "root".to_owned());
        let text = policy(&demands, DefaultName::Deny, &names).to_string();
        let mut loaded = parse("p.yaml".as_ref(), &text, &SystemNames::LOCAL)
            .map_err(|problems| TestCaseError::fail(format!("{}\n{text}", problems.render(false))))?;
        lint(&mut loaded, &Host::ANY);
        prop_assert_eq!(loaded.warnings.render(false), "", "{}", text);
        let tables = compile(&loaded.policy).unwrap();
        for seen in &seen {
            let cgroup: Vec<&str> = seen.path.split('/').filter(|name| !name.is_empty()).collect();
            let decision = tables.decide(&Bind {
                port: seen.port,
                protocol: seen.protocol,
                uid: seen.uids[0],
                euid: seen.uids[1],
                gids: &[7],
                setgid: None,
                owners: &[],
                cgroup: &cgroup,
                address: [127, 0, 0, 1].into(),
                dual_stack: false,
            });
            prop_assert_eq!(decision.map(|d| d.verdict), Some(Verdict::Allow), "{:?}\n{}", seen, text);
        }
        // In whatever order it was seen.
        let mut backwards = demands;
        backwards.reverse();
        prop_assert_eq!(policy(&backwards, DefaultName::Deny, &names).to_string(), text);
    }
}

fn suggest(arguments: &[&str], input: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("seen.jsonl"), input).unwrap();
    Command::new(env!("CARGO_BIN_EXE_portguard"))
        .arg("suggest")
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

fn event(port: u16, uid: u32, cgroup: &str, errno: Option<&str>) -> String {
    let event = serde_json::json!({
        "port": port, "protocol": "tcp", "uid": uid, "euid": uid, "gid": uid, "user": null,
        "cgroup": cgroup, "address": "0.0.0.0", "errno": errno, "count": 2, "comm": "srv",
        "exe": "/usr/bin/srv",
    });
    format!("{event}\n")
}

#[test]
fn suggest_turns_events_into_rules() {
    let input = [
        event(80, 4242, "/system.slice/web\\\\x2d1.service", None),
        event(443, 4242, "/system.slice/web\\\\x2d1.service", None),
        event(700, 4243, "/", None),
        event(701, 4243, "/", None),
        event(
            702,
            4244,
            "/user.slice/user-4244.slice/session-1.scope",
            None,
        ),
        event(8443, 4242, "/system.slice/web\\\\x2d1.service", None),
        event(25, 4245, "/", Some("EACCES")),
    ]
    .concat();
    let output = suggest(&["--event", "seen.jsonl"], &input);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "# Generated from 12 binds recorded by portguard.
version: 1
default: kernel
protect: [\"1-1023\", 8443]
rules:
  # 4 binds: /usr/bin/srv
  - name: uid-4243
    action: allow
    ports: [\"700-701\"]
    protocols: [tcp]
    users: [4243]
  # 2 binds: /usr/bin/srv
  - name: uid-4244
    action: allow
    ports: [702]
    protocols: [tcp]
    users: [4244]
  # 6 binds: /usr/bin/srv
  - name: web-x2d1
    action: allow
    ports: [80, 443, 8443]
    protocols: [tcp]
    users: [4242]
    units: [\"web\\\\x2d1.service\"]
"
    );
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "portguard: left out 2 binds that were refused\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn suggest_reads_the_journal_and_rows_of_the_table() {
    let journal = r#"{"__REALTIME_TIMESTAMP":"2","PORTGUARD_VERDICT":"kernel","PORTGUARD_PORT":"25","PORTGUARD_PROTOCOL":"tcp","PORTGUARD_UID":"4242","PORTGUARD_CGROUP":"/system.slice/mail.service"}"#;
    let row = "03:04:05Z      kernel  tcp/25 0.0.0.0         ?(4242)         smtpd[1]\n               \
        /system.slice/mail.service  default";
    for input in [journal, row] {
        let output = suggest(&["--event", "seen.jsonl"], input);
        let text = String::from_utf8(output.stdout).unwrap();
        let rule =
            "    ports: [25]\n    protocols: [tcp]\n    users: [4242]\n    units: [mail.service]\n";
        assert!(text.ends_with(rule), "{text}");
    }
}

#[test]
fn suggest_prints_what_a_policy_lacks() {
    let rule = "rules: [{ name: mail, action: allow, ports: [25], users: [4242] }]";
    let policy = |default: &str| format!("version: 1\ndefault: {default}\n{rule}\n");
    let mail = event(25, 4242, "/", None);
    let web = event(80, 4242, "/system.slice/mail.service", None);
    let unprotected = event(8080, 4242, "/", None);
    let lacking = "# Generated from 2 binds recorded by portguard.
# Only what the policy lacks. The first rule that matches decides: name this file so that it comes before it.
version: 1
rules:
  # 2 binds: /usr/bin/srv
  - name: mail-2
    action: allow
    ports: [80]
    protocols: [tcp]
    users: [4242]
    units: [mail.service]
";
    for default in ["kernel", "deny"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), policy(default)).unwrap();
        let path = file.path().to_str().unwrap();
        let arguments = ["--event", "seen.jsonl", "--policy", path];
        let output = suggest(&arguments, &[&*mail, &*web, &*unprotected].concat());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), lacking);
        let output = suggest(&arguments, &mail);
        assert_eq!(output.stdout, b"");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "portguard: the policy has rules for all that was recorded\n"
        );
        assert_eq!(output.status.code(), Some(0));
    }
}

/// Of what a host does, too, only that which the policy lacks.
#[test]
fn suggest_from_host_prints_what_a_policy_lacks() {
    let host = host();
    let root = host.path().to_str().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let rules = "rules:
  - { name: ssh, action: allow, ports: [222], units: [ssh.socket] }
  - { name: web, action: allow, ports: [90], units: [web.service], users: [4243] }
  - { name: authbind, action: allow, ports: [\"600-602\", 610], users: [4242] }
  - { name: other, action: allow, ports: [91], users: [1] }
";
    fs::write(file.path(), format!("version: 1\n{rules}")).unwrap();
    let arguments = ["--from-host", "--root", root, "--policy", path];
    let lacking = String::from_utf8(suggest(&arguments, "").stdout).unwrap();
    for port in ["222", "[90", "600", "610"] {
        assert!(
            !lacking.contains(&format!("ports: [{port}")),
            "{port}: {lacking}"
        );
    }
    assert!(lacking.contains("ports: [80, 91]"), "{lacking}");
    assert!(lacking.contains("ports: [620]"), "{lacking}");
    fs::write(
        file.path(),
        "version: 1\nrules: [{ name: all, action: kernel }]\n",
    )
    .unwrap();
    let output = suggest(&arguments, "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "portguard: the policy has rules for all that was found\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn suggest_of_nothing_is_an_error() {
    let refused = event(25, 4245, "/", Some("EACCES"));
    let output = suggest(&["--event", "seen.jsonl", "--default", "deny"], &refused);
    let said = String::from_utf8(output.stderr).unwrap();
    let expected =
        "portguard: no bind to allow was recorded: a policy of no rules would only refuse\n";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(output.stdout, b"");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn suggest_rejects_invalid_event_with_its_line() {
    let output = suggest(&["--event", "seen.jsonl"], "\n{\"port\": 80}\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("portguard: seen.jsonl:2: not a decision event"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    let output = suggest(&["--event", "/no/such/file"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("portguard: reading /no/such/file: No such file"),
        "{said}"
    );
    assert_eq!(suggest(&[], "").status.code(), Some(2));
}

/// A host's root directory: one of everything that gets round the rule.
fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let write = |path: &str, text: &str, mode: u32| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(
        "proc/sys/net/ipv4/ip_unprivileged_port_start",
        "80\n",
        0o644,
    );
    write("etc/authbind/byport/21", "", 0o500);
    write("etc/authbind/byport/22", "", 0o501);
    write(
        "etc/authbind/byuid/4242",
        "0.0.0.0/0:600,602\n::/0,610\n10.0.0.0/8:620\nnonsense\n# no\n",
        0o644,
    );
    write("etc/authbind/byaddr/127.0.0.1,53", "", 0o500);
    write(
        "usr/lib/systemd/system/ssh.socket",
        "[Socket]\nListenStream=22\nListenStream=\nListenStream=[::]:222\nListenDatagram=/run/x\n",
        0o644,
    );
    write(
        "usr/lib/systemd/system/web.service",
        "[Service]\nUser=4243\nAmbientCapabilities=CAP_CHOWN \\\n CAP_NET_BIND_SERVICE\n",
        0o644,
    );
    write(
        "etc/systemd/system/web.service.d/more.conf",
        "[Service]\nSocketBindAllow=ipv4:tcp:90-91\n",
        0o644,
    );
    write(
        "etc/systemd/system/idle.service",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE\n",
        0o644,
    );
    write(
        "etc/systemd/system/stranger.service",
        "[Service]\nUser=no-such-user\nSocketBindAllow=tcp:99\n",
        0o644,
    );
    write("usr/bin/quiet", "", 0o4755);
    write("usr/bin/server", "", 0o4755);
    write("usr/bin/plain", "", 0o755);
    write("usr/bin/capable", "", 0o755);
    add_process(root);
    dir
}

/// web.service's process, which listens on tcp/80 and tcp/8080.
fn add_process(root: &Path) {
    let process = root.join("proc/50");
    fs::create_dir_all(process.join("fd")).unwrap();
    fs::create_dir_all(root.join("proc/net")).unwrap();
    let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4243        0 777 1 0000000000000000 100 0 0 10 0\n   \
        1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4243        0 778 1 0000000000000000 100 0 0 10 0\n";
    fs::write(root.join("proc/net/tcp"), tcp).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let status: Vec<String> = (status.lines())
        .map(|line| match line.starts_with("Uid:") {
            true => "Uid:\t4243\t4243\t4243\t4243".to_owned(),
            false => line.to_owned(),
        })
        .collect();
    fs::write(process.join("status"), status.join("\n") + "\n").unwrap();
    fs::write(process.join("cgroup"), "0::/system.slice/web.service\n").unwrap();
    symlink("socket:[777]", process.join("fd/3")).unwrap();
    symlink("socket:[778]", process.join("fd/4")).unwrap();
    symlink("/usr/bin/server", process.join("exe")).unwrap();
}

/// `struct vfs_cap_data` of revision 2 with `CAP_NET_BIND_SERVICE` permitted and effective.
fn set_capability(path: &Path) {
    let words = [0x0200_0001u32, 1 << 10, 0, 0, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(
        path,
        "security.capability",
        &value,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap_or_else(|error| panic!("setting a file capability takes root: {error}"));
}

#[test]
fn suggest_reads_host_configuration() {
    let root = host();
    set_capability(&root.path().join("usr/bin/capable"));
    let output = suggest(
        &["--from-host", "--root", root.path().to_str().unwrap()],
        "",
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.replace(root.path().to_str().unwrap(), "ROOT");
    let path = Path::new("tests/suggest/host.yaml");
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(path).unwrap());
    let mut loaded = parse("p.yaml".as_ref(), &text, &SystemNames::LOCAL).unwrap();
    lint(&mut loaded, &Host::ANY);
    assert_eq!(loaded.warnings.render(false), "");
}

#[test]
fn suggest_rejects_missing_root() {
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().to_str().unwrap();
    let output = suggest(&["--from-host", "--root", root], "");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "portguard: inspecting the host: {root} is not the root directory of a host: it has no `proc` and no `etc`\n"
        )
    );
    assert_eq!(output.status.code(), Some(1));
}
