//! The enums that events and status name by a word: as text, as JSON, and in JSON Schema.

use crate::{Errno, Family, Hook, Protocol, Reason, Verdict};
use core::fmt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use std::string::String;

/// An enum known by the words of its `as_str`. An unknown word is an error that names the field.
macro_rules! by_word {
    ($type:ident, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(self.as_str())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl Visitor<'_> for Word {
                    type Value = $type;

                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(out, "{}: {}", $what, OneOf(&$type::ALL.map($type::as_str)))
                    }

                    fn visit_str<E: Error>(self, word: &str) -> Result<$type, E> {
                        let mut all = $type::ALL.into_iter();
                        all.find(|known| known.as_str() == word).ok_or_else(|| {
                            let known = $type::ALL.map($type::as_str);
                            let known = OneOf(&known);
                            E::custom(format_args!("unknown {} `{word}`: expected {known}", $what))
                        })
                    }
                }

                deserializer.deserialize_str(Word)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "enum": $type::ALL.map($type::as_str)})
            }
        }
    };
}

by_word!(Errno, "errno");
by_word!(Family, "family");
by_word!(Hook, "hook");
by_word!(Protocol, "protocol");
by_word!(Verdict, "verdict");

/// The reasons that have a word. [`Reason::None`] is null.
const REASONS: [Reason; 2] = [Reason::NoMemory, Reason::UnresolvedCgroup];

fn reasons() -> [&'static str; 2] {
    REASONS.map(|reason| reason.as_str().unwrap_or_default())
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(word) = Option::<String>::deserialize(deserializer)? else {
            return Ok(Self::None);
        };
        let mut all = REASONS.into_iter();
        all.find(|known| known.as_str() == Some(&word))
            .ok_or_else(|| {
                let known = reasons();
                let known = OneOf(&known);
                D::Error::custom(format_args!("unknown reason `{word}`: expected {known}"))
            })
    }
}

impl JsonSchema for Reason {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let [first, second] = reasons();
        json_schema!({"type": ["string", "null"], "enum": [first, second, null]})
    }
}

/// Words for people: `a, b or c`.
struct OneOf<'a>(&'a [&'a str]);

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.0.iter().enumerate() {
            match at {
                0 => {}
                _ if at + 1 == self.0.len() => out.write_str(" or ")?,
                _ => out.write_str(", ")?,
            }
            out.write_str(word)?;
        }
        Ok(())
    }
}
