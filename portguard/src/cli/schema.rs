//! `portguard schema`: the JSON Schema of policy files.

use super::Exit;

#[derive(clap::Args)]
#[command(
    after_long_help = "To use it in an editor, start the policy with the line:\n  \
    # yaml-language-server: $schema=/etc/portguard/schema.json\n\nExamples:\n  \
    portguard schema > /etc/portguard/schema.json\n  \
    portguard schema | jq '.\"$defs\".Rule.properties | keys'"
)]
pub(super) struct Args {}

pub(super) fn run() -> Exit {
    println!("{:#}", portguard_policy::yaml::schema());
    Exit::Success
}
