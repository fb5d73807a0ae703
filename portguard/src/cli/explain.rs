//! `portguard explain`: how a policy decides a bind, and why.

use super::Exit;
use anyhow::{Context as _, anyhow};
use portguard_common::Protocol;
use portguard_policy::analysis::explain::{Explained, Field, Passed, explain};
use portguard_policy::compile::Bind;
use portguard_policy::escape::{escape, unescape};
use portguard_policy::policy::{Location, Names as _, Policy, Rule, SystemNames};
use serde::Deserialize;
use serde_json::json;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  \
    portguard explain --policy web.yaml --user www-data --port 443\n  \
    portguard explain --policy web.yaml --port 443 --all\n  \
    portguard monitor --verdict deny --output json | portguard explain --policy web.yaml --event -")]
pub(super) struct Args {
    /// Policy file or directory; may be repeated
    #[arg(long, value_name = "PATH", default_value = "/etc/portguard/policies")]
    policy: Vec<PathBuf>,
    /// The port to bind
    #[arg(long, value_name = "N", required_unless_present = "event", conflicts_with = "event",
        value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// tcp, udp, sctp or dccp [default: tcp; with --all, every protocol]
    #[arg(long, value_parser = protocol)]
    protocol: Option<Protocol>,
    /// Real and effective user, by name or uid; without --group, its groups from the system's database apply
    #[arg(long, default_value = "root", value_parser = user)]
    user: User,
    /// Group of the caller, by name or gid; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    group: Vec<u32>,
    /// Cgroup of the caller, an absolute path
    #[arg(long, default_value = "/", value_parser = cgroup)]
    cgroup: Cgroup,
    /// Address to bind; `::` includes IPv4
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,
    /// Explain recorded decision events: JSON lines from this file, or - for standard input; groups come from
    /// the system's database as it is now
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// List everyone who may bind the port: users, groups, cgroups and protocols
    #[arg(long, requires = "port", conflicts_with_all = ["user", "group", "cgroup", "address"])]
    all: bool,
    /// Print one JSON object per bind, or per row of --all
    #[arg(long)]
    json: bool,
}

/// A user with the groups that the system gives it.
#[derive(Clone, Debug)]
struct User {
    id: u32,
    gids: Vec<u32>,
}

/// Components of a path below the root of the tree.
#[derive(Clone, Debug)]
struct Cgroup(Vec<String>);

fn protocol(word: &str) -> Result<Protocol, String> {
    let mut all = Protocol::ALL.into_iter();
    all.find(|protocol| protocol.as_str() == word)
        .ok_or_else(|| "expected tcp, udp, sctp or dccp".into())
}

fn user(text: &str) -> Result<User, String> {
    if let Ok(id) = text.parse() {
        return Ok(User {
            id,
            gids: Vec::new(),
        });
    }
    let id = SystemNames.uid(text);
    Ok(User {
        id: id.ok_or("no such user; numeric ids are accepted")?,
        gids: SystemNames.gids_of(text),
    })
}

fn group(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .or_else(|| SystemNames.gid(text))
        .ok_or_else(|| "no such group; numeric ids are accepted".into())
}

fn cgroup(path: &str) -> Result<Cgroup, String> {
    let below = path
        .strip_prefix('/')
        .ok_or("expected an absolute path, as /proc/PID/cgroup shows after 0::")?;
    let names = below.split('/').filter(|name| !name.is_empty());
    Ok(Cgroup(names.map(str::to_owned).collect()))
}

/// What of a decision event describes the bind.
#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) port: u16,
    protocol: String,
    pub(super) uid: u32,
    pub(super) euid: u32,
    gid: u32,
    user: Option<String>,
    cgroup: Option<String>,
    address: IpAddr,
    pub(super) errno: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) comm: Option<String>,
    pub(super) exe: Option<String>,
}

impl Event {
    /// The protocol, and the path behind the escapes; `None` where the cgroup is gone.
    pub(super) fn protocol_and_cgroup(&self) -> anyhow::Result<(Protocol, Option<String>)> {
        let protocol = protocol(&self.protocol).map_err(|why| anyhow!(why))?;
        let path = self.cgroup.as_deref().map(|path| path_of(Some(path)));
        Ok((protocol, path.transpose().map_err(|why| anyhow!(why))?))
    }
}

/// A bind to explain, with all that it borrows.
struct Asked {
    port: u16,
    protocol: Protocol,
    uid: u32,
    euid: u32,
    gids: Vec<u32>,
    cgroup: Cgroup,
    address: IpAddr,
}

/// # Errors
/// Where events cannot be read, or the policy does not compile.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Some(policy) = super::load(&args.policy) else {
        return Ok(Exit::NotSo);
    };
    if let (true, Some(port)) = (args.all, args.port) {
        return super::who_can_bind::print(&policy, port, args.protocol, args.json);
    }
    let asked = match (&args.event, args.port) {
        (Some(path), _) => of_events(path)?,
        (None, Some(port)) => vec![of_arguments(args, port)],
        // clap asks for one of both.
        (None, None) => Vec::new(),
    };
    for asked in &asked {
        one(&policy, asked, args.json)?;
    }
    Ok(Exit::Success)
}

fn of_arguments(args: &Args, port: u16) -> Asked {
    let gids = if args.group.is_empty() {
        args.user.gids.clone()
    } else {
        args.group.clone()
    };
    Asked {
        port,
        protocol: args.protocol.unwrap_or(Protocol::Tcp),
        uid: args.user.id,
        euid: args.user.id,
        gids,
        cgroup: args.cgroup.clone(),
        address: args.address,
    }
}

/// The events of a file, each with what is said where it makes no sense.
pub(super) fn events(path: &Path) -> anyhow::Result<Vec<Event>> {
    let each = numbered_events(path)?.into_iter();
    Ok(each.map(|(_, event)| event).collect())
}

fn numbered_events(path: &Path) -> anyhow::Result<Vec<(String, Event)>> {
    let mut text = String::new();
    let name = path.display();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
    }
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            let what = format!(
                "{name}:{number}: not a decision event as `portguard run --output json` writes it"
            );
            let event = serde_json::from_str(line).with_context(|| what.clone())?;
            Ok((what, event))
        })
        .collect()
}

fn of_events(path: &Path) -> anyhow::Result<Vec<Asked>> {
    let each = numbered_events(path)?.into_iter();
    each.map(|(what, event)| of_event(event).map_err(|why| anyhow!(why)).context(what))
        .collect()
}

fn of_event(event: Event) -> Result<Asked, String> {
    let named = event.user.as_deref();
    let mut gids = named.map_or_else(Vec::new, |user| SystemNames.gids_of(user));
    gids.push(event.gid);
    Ok(Asked {
        port: event.port,
        protocol: protocol(&event.protocol)?,
        uid: event.uid,
        euid: event.euid,
        gids,
        cgroup: cgroup(&path_of(event.cgroup.as_deref())?)?,
        address: event.address,
    })
}

/// The path behind an event's escapes.
fn path_of(escaped: Option<&str>) -> Result<String, String> {
    unescape(escaped.unwrap_or("/"))
        .ok_or_else(|| "its cgroup is not escaped the way portguard escapes events".into())
}

fn one(policy: &Policy, asked: &Asked, as_json: bool) -> anyhow::Result<()> {
    let cgroup: Vec<&str> = asked.cgroup.0.iter().map(String::as_str).collect();
    let bind = Bind {
        port: asked.port,
        protocol: asked.protocol,
        uid: asked.uid,
        euid: asked.euid,
        gids: &asked.gids,
        cgroup: &cgroup,
        address: asked.address,
        dual_stack: true,
    };
    let explained = explain(policy, &bind)?;
    if as_json {
        println!("{}", as_object(asked, explained.as_ref()));
    } else {
        print!("{}", as_text(asked, explained.as_ref()));
    }
    Ok(())
}

fn line_of(place: &Location) -> String {
    let Location { file, line, column } = place;
    format!("{}:{line}:{column}", file.display())
}

fn as_text(asked: &Asked, explained: Option<&Explained<'_>>) -> String {
    let Some(explained) = explained else {
        return format!("not decided: port {} is not in `protect`\n", asked.port);
    };
    let by = match explained.rule {
        Some(rule) => format!("rule {} ({})", rule.name, line_of(&rule.place)),
        None => "the default (no rule matches)".to_owned(),
    };
    let audit = if explained.enforced {
        ""
    } else {
        ", audit only: reported, not enforced"
    };
    let mut text = format!("{} by {by}{audit}\n", explained.verdict.as_str());
    for Passed { rule, field } in &explained.passed {
        let why = match field {
            Some(field) => mismatch(*field, asked),
            None => "the cgroup path is too deep to be read".to_owned(),
        };
        text += &format!("  not {} ({}): {why}\n", rule.name, line_of(&rule.place));
    }
    text
}

/// What of the bind a field does not match.
fn mismatch(field: Field, asked: &Asked) -> String {
    let ids = |ids: &[u32]| match ids {
        [] => "none".to_owned(),
        ids => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    };
    let has = match field {
        Field::Ports => asked.port.to_string(),
        Field::Protocols => asked.protocol.as_str().to_owned(),
        Field::Users if asked.uid == asked.euid => asked.uid.to_string(),
        Field::Users => format!("real {}, effective {}", asked.uid, asked.euid),
        Field::Groups => ids(&asked.gids),
        Field::Addresses => asked.address.to_string(),
        Field::Cgroups | Field::Units => {
            escape(format!("/{}", asked.cgroup.0.join("/")).as_bytes())
        }
    };
    format!("{} do not match {has}", field.as_str())
}

fn as_object(asked: &Asked, explained: Option<&Explained<'_>>) -> serde_json::Value {
    let place = |rule: &Rule| {
        json!({
            "rule": rule.name,
            "file": rule.place.file,
            "line": rule.place.line,
            "column": rule.place.column,
        })
    };
    let Some(explained) = explained else {
        return json!({ "port": asked.port, "protected": false });
    };
    let passed = explained.passed.iter().map(|passed| {
        let mut object = place(passed.rule);
        object["field"] = json!(passed.field.map(Field::as_str));
        object
    });
    json!({
        "port": asked.port,
        "protected": true,
        "verdict": explained.verdict.as_str(),
        "enforced": explained.enforced,
        "by": explained.rule.map(place),
        "passed": passed.collect::<Vec<_>>(),
    })
}
