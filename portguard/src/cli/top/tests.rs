//! The screen, drawn into a buffer.

use super::Message;
use super::screen::draw;
use super::tally::tests::decided;
use super::view::View;
use crate::status::{DaemonStatus, Decisions, Enforcing, PolicyInForce, Reloads, RuleHits, Status};
use portguard_common::{Hook, Verdict};
use portguard_policy::policy::{Mode, Scope};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode};

fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width));
    let text = |line: &[ratatui::buffer::Cell]| line.iter().map(|cell| cell.symbol()).collect();
    lines
        .map(text)
        .map(|line: String| line.trim_end().to_owned())
        .collect()
}

fn press(view: &mut View, code: KeyCode) -> bool {
    view.press(&Event::Key(code.into()))
}

fn seen() -> View {
    let mut view = View::new();
    for _ in 0..3 {
        view.take(Message::DecisionEvent(Box::new(decided(
            Verdict::Allow,
            80,
            33,
        ))));
    }
    view.take(Message::DecisionEvent(Box::new(decided(
        Verdict::Deny,
        443,
        1000,
    ))));
    view.tally.tick();
    view
}

fn rule(name: Option<&str>, verdict: Verdict, hits: u64) -> RuleHits {
    RuleHits {
        name: name.map(str::to_owned),
        verdict,
        origin: None,
        audit: false,
        hits,
    }
}

fn status() -> Status {
    Status {
        enforcing: Enforcing::Enforce,
        hook: Some(Hook::Lsm),
        daemon: Some(DaemonStatus {
            pid: 1,
            version: "0.1.0".into(),
            since: String::new(),
            uptime: 3_700,
            usage: None,
        }),
        kernel: "6.12.0".into(),
        policy: Some(PolicyInForce {
            hash: "b7b9142ff996".into(),
            revision: "fedcba987654".into(),
            origin: Vec::new(),
            generation: 1,
            since: String::new(),
            mode: Mode::Enforce,
            default: Verdict::Kernel,
            protect: "1-1023".into(),
            scope: Scope::Host,
        }),
        rules: vec![
            rule(Some("unused"), Verdict::Allow, 0),
            rule(Some("allow-rule"), Verdict::Allow, 30),
            rule(None, Verdict::Kernel, 2),
        ],
        decisions: Decisions {
            allow: 30,
            deny: 1,
            kernel: 2,
        },
        dropped: [("ring_full".to_owned(), 5)].into(),
        events: Some(5),
        programs: Vec::new(),
        reloads: Some(Reloads::default()),
        pins: None,
        problems: Vec::new(),
        reattached: 0,
        fallback: None,
        violations: None,
        hardening: None,
    }
}

#[test]
fn top_starts_with_binds() {
    let lines = screen(&mut seen(), 100, 24);
    assert_eq!(lines[0], "portguard  connecting to the daemon ...");
    assert_eq!(
        lines[1],
        "4/s, peak 4  seen 4 in 1 s:  3 allow  1 deny  0 kernel"
    );
    let titles = " 1 binds   2 refused   3 rules   sorted by count";
    assert_eq!(lines[5], titles);
    for (line, words) in [
        (6, "COUNT /S VERDICT PORT USER PROGRAM CGROUP LAST"),
        (7, "3 0.9 allow tcp/80 www-data(33) nginx nginx.service 1s"),
        (8, "1 0.3 deny tcp/443 1000 nginx nginx.service 1s"),
        (9, ""),
    ] {
        let shown: Vec<&str> = lines[line].split_whitespace().collect();
        assert_eq!(shown.join(" "), words);
    }
    let keys = "q quit  tab table  ↑↓ select  esc clear  s sort  p pause";
    assert_eq!(lines[23], keys);
}

#[test]
fn top_shows_state_and_problems_first() {
    let mut view = seen();
    view.take(Message::Status(Box::new(status())));
    let lines = screen(&mut view, 100, 24);
    assert_eq!(
        lines[0],
        "portguard  enforcing  hook lsm  policy b7b9142ff996  up 1 h 1 min  decided 33  dropped 5"
    );
    view.take(Message::Status(Box::new(Status {
        enforcing: Enforcing::Degraded,
        problems: vec!["the hook bind6 is gone".into()],
        reloads: Some(Reloads {
            error: Some("web.yaml:1:1: bad\n  |".into()),
            ..Reloads::default()
        }),
        ..status()
    })));
    view.take(Message::Dropped(9));
    let lines = screen(&mut view, 100, 24);
    assert!(
        lines[0].starts_with("portguard  degraded  hook lsm"),
        "{}",
        lines[0]
    );
    assert!(lines[1].ends_with("  9 dropped"), "{}", lines[1]);
    assert_eq!(lines[2], "the hook bind6 is gone");
    assert_eq!(lines[3], "the last reload failed: web.yaml:1:1: bad");
    view.take(Message::Disconnected("the daemon has ended".into()));
    let lines = screen(&mut view, 100, 24);
    assert_eq!(lines[0], "portguard  no daemon");
    assert_eq!(lines[2], "the daemon has ended; retrying");
    view.take(Message::Connected);
    assert_eq!(screen(&mut view, 100, 24)[2], "the hook bind6 is gone");
}

#[test]
fn top_shows_rules_without_hits() {
    let mut view = seen();
    view.take(Message::Status(Box::new(status())));
    press(&mut view, KeyCode::Char('3'));
    let words = |view: &mut View| -> Vec<String> {
        let lines = screen(view, 100, 24);
        let lines = lines[7..11].iter();
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let allow = "30 3 0.9 allow allow-rule www-data(33) tcp/80 1s";
    let deny = "- 1 0.3 deny deny-rule 1000 tcp/443 1s";
    let default = "2 0 kernel (default)";
    let unused = "0 0 allow unused";
    assert_eq!(words(&mut view), [allow, default, deny, unused]);
    for _ in 0..3 {
        press(&mut view, KeyCode::Char('s'));
    }
    assert_eq!(words(&mut view), [unused, allow, default, deny]);
}

#[test]
fn top_shows_details_of_selected_row() {
    let mut view = seen();
    press(&mut view, KeyCode::Tab);
    press(&mut view, KeyCode::Down);
    let lines = screen(&mut view, 100, 24);
    assert_eq!(
        lines[19],
        "latest 03:04:05.678  deny tcp/443 127.0.0.1: EACCES, rule deny-rule"
    );
    assert_eq!(
        lines[20],
        "user 1000, euid 1000, gid 1000, egid 1000; process 4242 /usr/sbin/nginx (nginx)"
    );
    assert_eq!(lines[21], "cgroup /system.slice/nginx.service; netns 1");
}

#[test]
fn top_pause_freezes_screen_but_keeps_counting() {
    let mut view = seen();
    press(&mut view, KeyCode::Char('p'));
    let before = screen(&mut view, 100, 24);
    assert!(before[23].starts_with(" paused "), "{}", before[23]);
    view.take(Message::DecisionEvent(Box::new(decided(
        Verdict::Kernel,
        25,
        0,
    ))));
    view.tally.tick();
    assert_eq!(screen(&mut view, 100, 24), before);
    press(&mut view, KeyCode::Char('p'));
    assert!(screen(&mut view, 100, 24)[1].contains("seen 5 in 2 s"));
}

#[test]
fn top_survives_any_size_and_key() {
    let mut view = seen();
    view.take(Message::Status(Box::new(status())));
    for code in [
        KeyCode::Up,
        KeyCode::PageDown,
        KeyCode::End,
        KeyCode::Left,
        KeyCode::Home,
        KeyCode::PageUp,
        KeyCode::Esc,
        KeyCode::BackTab,
        KeyCode::F(1),
    ] {
        assert!(press(&mut view, code));
        for (width, height) in [(1, 1), (20, 3), (80, 24), (300, 100)] {
            screen(&mut view, width, height);
        }
    }
    assert!(!press(&mut view, KeyCode::Char('q')));
}
