//! Reads a decision as a terminal or a log shows it: a pasted row of the table, or the sentence of a journal entry.

use super::recorded::Recorded;

/// What a heading and the daemon's own lines begin with.
pub(super) fn is_heading(line: &str) -> bool {
    line.starts_with("TIME ") || line.starts_with("portguard: ")
}

/// The decision of a row (`03:04:05Z deny tcp/80 ...`) or of a sentence (`host portguard[1]: deny tcp/80 ... by ...`).
///
/// Only what can be told is: a row has no group and no policy. The text that a process chooses, its name and cgroup,
/// may have spaces, so what is around them is looked for.
pub(super) fn parse(line: &str) -> Option<Recorded> {
    let starts = line.match_indices(' ').map(|(at, _)| at + 1);
    let mut rests = std::iter::once(0)
        .chain(starts)
        .filter_map(|at| line.get(at..));
    rests.find_map(|rest| decision(rest.trim_start()))
}

fn decision(text: &str) -> Option<Recorded> {
    // As audit mode says it.
    let text = text.strip_prefix("would ").unwrap_or(text);
    let (verdict, rest) = word(text)?;
    if !["allow", "deny", "kernel"].contains(&verdict) {
        return None;
    }
    let (what, rest) = word(rest)?;
    let (protocol, port) = what.split_once('/')?;
    let (address, rest) = word(rest)?;
    let rest = rest.strip_prefix("by ").unwrap_or(rest);
    let (user, rest) = rest.split_once('(')?;
    let (uid, rest) = rest.split_once(')')?;
    let (euid, rest) = match rest.strip_prefix(" as ").and_then(word) {
        Some((euid, rest)) => (euid.parse().ok()?, rest),
        None => (uid.parse().ok()?, rest.trim_start()),
    };
    let (comm, rest) = process(rest)?;
    let rest = rest.strip_prefix("in ").unwrap_or(rest);
    let (cgroup, why) = place(rest)?;
    let why = Why::of(why)?;
    Some(Recorded {
        port: port.parse().ok()?,
        protocol: protocol.to_owned(),
        uid: uid.parse().ok()?,
        euid: Some(euid),
        user: (user != "?").then(|| user.to_owned()),
        cgroup: (cgroup != "(gone)").then(|| cgroup.to_owned()),
        address: Some(address.parse().ok()?),
        errno: why.errno,
        count: Some(why.count),
        comm: Some(comm.to_owned()),
        verdict: Some(verdict.to_owned()),
        rule: why.rule,
        ..Recorded::default()
    })
}

/// The first word, and what follows the blanks after it.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    Some((word, rest.trim_start()))
}

/// The name of `NAME[PID] `, and what follows.
fn process(text: &str) -> Option<(&str, &str)> {
    let mut ends = text.match_indices("] ");
    ends.find_map(|(end, _)| {
        let (name, pid) = text.get(..end)?.rsplit_once('[')?;
        let rest = text.get(end + 1..)?.trim_start();
        let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        let is_place = ["/", "in /", "(gone)", "in (gone)"]
            .iter()
            .any(|start| rest.starts_with(start));
        (is_pid && is_place).then_some((name, rest))
    })
}

/// The cgroup, and why.
fn place(text: &str) -> Option<(&str, &str)> {
    const WHY: [&str; 4] = [
        " rule ",
        " default",
        " unresolved cgroup",
        " no memory to read",
    ];
    let at = WHY.iter().filter_map(|start| text.find(start)).min()?;
    let (cgroup, why) = text.split_at_checked(at)?;
    let cgroup = cgroup.trim_end();
    // A sentence has a colon there.
    Some((cgroup.strip_suffix(':').unwrap_or(cgroup), why.trim_start()))
}

struct Why {
    rule: Option<String>,
    errno: Option<String>,
    count: u64,
}

impl Why {
    fn of(text: &str) -> Option<Self> {
        let mut why = Self {
            rule: None,
            errno: None,
            count: 1,
        };
        let mut rest = text.trim_end();
        // The name of a rule may have commas, so the ends are taken off one by one.
        while let Some((before, last)) = rest.rsplit_once(", ") {
            if let Some(count) = last.strip_prefix('x').and_then(|count| count.parse().ok()) {
                why.count = count;
            } else if ["EACCES", "EPERM", "EADDRINUSE"].contains(&last) {
                why.errno = Some(last.to_owned());
            } else if !["capability check skipped", "audit only"].contains(&last) {
                break;
            }
            rest = before;
        }
        why.rule = rest.strip_prefix("rule ").map(str::to_owned);
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Recorded {
        Recorded {
            port: 80,
            protocol: "tcp".into(),
            uid: 1000,
            euid: Some(0),
            user: Some("alice".into()),
            cgroup: Some("/user.slice".into()),
            address: "127.0.0.1".parse().ok(),
            errno: Some("EACCES".into()),
            count: Some(12),
            comm: Some("ncat".into()),
            verdict: Some("deny".into()),
            rule: Some("web, all".into()),
            ..Recorded::default()
        }
    }

    #[test]
    fn row_and_sentence_are_the_same_decision() {
        for text in [
            "03:04:05.678Z      deny    tcp/80 127.0.0.1              alice(1000) as 0      ncat[4242]              \
             /user.slice                 rule web, all, EACCES, x12",
            "03:04:05+01:00 deny    tcp/80 127.0.0.1      alice(1000) as 0 ncat[4242] /user.slice  rule web, all, \
             EACCES, x12",
            "deny tcp/80 127.0.0.1 by alice(1000) as 0 ncat[4242] in /user.slice: rule web, all, EACCES, x12",
            "Dec 01 00:30:11 host portguard[7]: deny tcp/80 127.0.0.1 by alice(1000) as 0 ncat[4242] in /user.slice: \
             rule web, all, EACCES, x12",
        ] {
            assert_eq!(parse(text), Some(expected()), "{text}");
        }
    }

    #[test]
    fn row_has_names_with_blanks_and_what_is_gone() {
        let text = "03:04:05Z would allow udp/53 :: ?(5) Web [1] x[42] (gone) default, audit only";
        let row = parse(text).unwrap();
        assert_eq!(row.comm.as_deref(), Some("Web [1] x"));
        assert_eq!((row.user, row.cgroup, row.rule), (None, None, None));
        assert_eq!((row.uid, row.euid, row.errno), (5, Some(5), None));
        assert_eq!(row.verdict.as_deref(), Some("allow"));
        assert_eq!(parse("no event"), None);
        assert_eq!(parse("deny tcp/80"), None);
    }
}
