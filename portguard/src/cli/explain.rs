//! `portguard explain`: how a policy decides a bind, and why.

use super::caller::{CallerArgs, cgroup};
use super::difference::Difference;
use super::objects;
use super::recorded_events::{self, RecordedBind, RecordedDecision, protocol};
use crate::exit::Exit;
use crate::policy_paths::{PolicyPaths, STDIN};
use crate::stdout::{self, out_line};
use anyhow::{anyhow, bail};
use portguard_common::Protocol;
use portguard_policy::analysis::explain::{Explained, Passed, explain};
use portguard_policy::analysis::space::Effect;
use portguard_policy::compile::{Bind, Gids, Owner, Setgid, compile};
use portguard_policy::escape::escape;
use portguard_policy::policy::{Field, Policy, Rule};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard explain web.yaml --user www-data --port 443\n  \
    portguard explain web.yaml --unit nginx --port 443\n  \
    portguard explain web.yaml --port 443 --all\n  \
    journalctl -u nginx -o json | portguard explain --event -\n  \
    portguard monitor --verdict deny --output json | portguard explain web.yaml --event -")]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyPaths,
    /// The port to bind
    #[arg(long, value_name = "N", required_unless_present = "event", conflicts_with = "event",
        value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// tcp, udp, sctp or dccp [default: tcp; with --all, every protocol]
    #[arg(long, value_parser = protocol)]
    protocol: Option<Protocol>,
    #[command(flatten)]
    caller: CallerArgs,
    /// Address to bind; `::` includes IPv4
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,
    /// Explain recorded decisions from this file, or - for standard input: JSON lines, `journalctl -o json`, or rows of
    /// the table; groups come from the system's database as it is now
    #[arg(long, value_name = "FILE", conflicts_with = "CallerArgs")]
    event: Option<PathBuf>,
    /// List everyone who may bind the port: users, groups, cgroups and protocols
    #[arg(long, requires = "port", conflicts_with_all = ["CallerArgs", "address"])]
    all: bool,
    /// Print one JSON object per bind, or per row of --all
    #[arg(long)]
    pub(super) json: bool,
}

/// A bind to explain.
struct Question {
    port: u16,
    protocol: Protocol,
    uid: u32,
    euid: u32,
    gids: Gids,
    /// The owners of its user namespaces.
    owners: Vec<Owner>,
    /// Names below the root of the tree.
    cgroup: Vec<String>,
    address: IpAddr,
    /// What the event of the bind says, if it is of one.
    recorded: Option<RecordedDecision>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.policy.is_stdin()
        && args
            .event
            .as_ref()
            .is_some_and(|path| path.as_os_str() == STDIN)
    {
        bail!("standard input is given twice: the policy or the events must be a file");
    }
    let policy = super::load(&args.policy.get())?;
    if let (true, Some(port)) = (args.all, args.port) {
        return super::who_can_bind::print(&policy, port, args.protocol, args.json);
    }
    let questions = match (&args.event, args.port) {
        (Some(path), _) => {
            let binds = recorded_events::read(path)?.into_iter();
            binds.map(from_event).collect::<Result<_, _>>()?
        }
        (None, Some(port)) => vec![from_arguments(args, port)?],
        // clap requires one of the two.
        (None, None) => Vec::new(),
    };
    let digest = compile(&policy)?.short_digest();
    for question in &questions {
        print(&policy, &digest, question, args.json)?;
    }
    Ok(Exit::Success)
}

fn from_arguments(args: &Args, port: u16) -> anyhow::Result<Question> {
    let caller = args.caller.get()?;
    Ok(Question {
        port,
        protocol: args.protocol.unwrap_or(Protocol::Tcp),
        uid: caller.uid,
        euid: caller.euid,
        gids: caller.gids,
        owners: caller.owners,
        cgroup: caller.cgroup,
        address: args.address,
        recorded: None,
    })
}

fn from_event(bind: RecordedBind) -> anyhow::Result<Question> {
    let gids = bind.gids();
    let path = bind.cgroup.as_deref().unwrap_or("/");
    Ok(Question {
        port: bind.port,
        protocol: bind.protocol,
        uid: bind.uid,
        euid: bind.euid,
        gids,
        owners: (bind.userns_owner.into_iter())
            .map(|uid| Owner { uid, gid: None })
            .collect(),
        cgroup: cgroup(path).map_err(|reason| anyhow!(reason))?.0,
        // Binds of several addresses, in one event.
        address: bind.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        recorded: Some(bind.decision),
    })
}

fn print(policy: &Policy, digest: &str, question: &Question, as_json: bool) -> anyhow::Result<()> {
    let cgroup: Vec<&str> = question.cgroup.iter().map(String::as_str).collect();
    let bind = Bind {
        port: question.port,
        protocol: question.protocol,
        uid: question.uid,
        euid: question.euid,
        gids: &question.gids.all,
        setgid: question.gids.setgid,
        owners: &question.owners,
        cgroup: &cgroup,
        address: question.address,
        dual_stack: true,
    };
    let explained = explain(policy, &bind)?;
    let recorded = question.recorded.as_ref();
    let difference = recorded.map(|recorded| Difference::new(recorded, digest, explained.as_ref()));
    if as_json {
        let mut object = as_object(question, explained.as_ref());
        object["policy"] = json!(digest);
        object["event"] = json!(difference.as_ref().map(Difference::as_object));
        out_line!("{object}")?;
    } else {
        stdout::text(&as_text(question, explained.as_ref()))?;
        if let Some(text) = difference.and_then(|difference| difference.as_text()) {
            out_line!("  {text}")?;
        }
    }
    Ok(())
}

fn as_text(question: &Question, explained: Option<&Explained<'_>>) -> String {
    let Some(explained) = explained else {
        return format!("not decided: port {} is not in `protect`\n", question.port);
    };
    let by = match explained.rule {
        Some(rule) => format!("rule {} ({})", rule.name, rule.location),
        None => "the default (no rule matches)".to_owned(),
    };
    let audit = if explained.enforced {
        ""
    } else {
        ", audit only: reported, not enforced"
    };
    // The effect if it were enforced: with its errno, where that is not the usual one.
    let effect = Effect::new(explained.verdict, true, explained.errno);
    let mut text = format!("{effect} by {by}{audit}\n");
    for Passed { rule, field } in &explained.passed {
        let why = match field {
            Some(field) => mismatch(*field, question),
            None => "the cgroup path is too deep to be read".to_owned(),
        };
        text += &format!("  not {} ({}): {why}\n", rule.name, rule.location);
    }
    text
}

/// What of the bind a field does not match.
fn mismatch(field: Field, question: &Question) -> String {
    let has = match field {
        Field::Ports => question.port.to_string(),
        Field::Protocols => question.protocol.as_str().to_owned(),
        Field::Users => users(question),
        Field::Groups => groups(question),
        // Not `IPV6_V6ONLY`: it answers on IPv4 too.
        Field::Addresses if question.address == IpAddr::from([0u16; 8]) => {
            ":: with 0.0.0.0".to_owned()
        }
        Field::Addresses => question.address.to_string(),
        Field::Cgroups | Field::Units => {
            escape(format!("/{}", question.cgroup.join("/")).as_bytes())
        }
    };
    format!("{} do not match {has}", field.as_str())
}

/// The uids of the caller, and those behind it.
fn users(question: &Question) -> String {
    let mut text = match question.uid == question.euid {
        true => question.uid.to_string(),
        false => format!("real {}, effective {}", question.uid, question.euid),
    };
    for owner in &question.owners {
        text += &format!(", in a user namespace of {}", owner.uid);
    }
    text
}

/// The gids of the caller.
fn groups(question: &Question) -> String {
    let all: Vec<String> = question.gids.all.iter().map(u32::to_string).collect();
    let all = all.join(",");
    match question.gids.setgid {
        None if all.is_empty() => "none".to_owned(),
        None => all,
        Some(Setgid { gid, egid }) => {
            let comma = if all.is_empty() { "" } else { ", " };
            format!("real {gid}, effective {egid}{comma}{all}")
        }
    }
}

fn as_object(question: &Question, explained: Option<&Explained<'_>>) -> serde_json::Value {
    let rule = explained.and_then(|explained| explained.rule);
    let skipped = explained.map(|explained| explained.passed.iter().map(skipped));
    json!({
        "bind": objects::bind(&objects::Question {
            port: question.port,
            protocol: question.protocol,
            address: question.address,
            uid: question.uid,
            euid: question.euid,
            gids: &question.gids.all,
            setgid: question.gids.setgid,
            owners: &question.owners,
            cgroup: &question.cgroup,
        }),
        "decided": explained.is_some(),
        "verdict": objects::verdict(explained.map(|explained| explained.verdict)),
        "enforced": explained.map(|explained| explained.enforced),
        "errno": explained.and_then(|explained| {
            Effect::new(explained.verdict, explained.enforced, explained.errno).errno()
        }),
        "rule": rule.map(|rule| &rule.name),
        "location": rule.map(|rule: &Rule| objects::location(&rule.location)),
        "skipped": skipped.map_or_else(Vec::new, Iterator::collect),
    })
}

/// A rule before the deciding one, and the first field of it that did not match.
fn skipped(passed: &Passed<'_>) -> serde_json::Value {
    json!({
        "rule": passed.rule.name,
        "location": objects::location(&passed.rule.location),
        "field": passed.field.map(Field::as_str),
    })
}
