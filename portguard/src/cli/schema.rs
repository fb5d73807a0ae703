//! `portguard schema`: the JSON Schema of policy files and of decision events.

use crate::events::DecisionEvent;
use crate::exit::Exit;
use crate::stdout::out_line;

#[derive(clap::Args)]
#[command(
    after_long_help = "To use it in an editor, start the policy with the line:\n  \
    # yaml-language-server: $schema=/etc/portguard/schema.json\n\nExamples:\n  \
    portguard schema > /etc/portguard/schema.json\n  \
    portguard schema | jq '.\"$defs\".Rule.properties | keys'\n  \
    portguard schema --event > event.schema.json"
)]
pub(super) struct Args {
    /// Print the schema of decision events
    #[arg(long)]
    event: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let schema = if args.event {
        DecisionEvent::schema()
    } else {
        portguard_policy::yaml::schema()
    };
    out_line!("{schema:#}")?;
    Ok(Exit::Success)
}
