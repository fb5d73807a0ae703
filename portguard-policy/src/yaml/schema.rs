//! The JSON Schema of policy files, by which editors complete and check them.

use super::PolicyFile;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema, draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<PolicyFile>().to_value()
}
