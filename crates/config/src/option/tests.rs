//! What must hold for the whole table.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::*;
use crate::names::{self, Address, Spelling};
use crate::source::Source;
use crate::value::{self, Value};

fn address(definition: &Definition) -> Address {
    Address { name: definition.name, index: definition.any_index() }
}

fn read(definition: &Definition, text: &str) -> Value {
    let written = [Zeroizing::new(text.to_owned())];
    value::parse(definition, address(definition), &written, &Source::Default)
        .unwrap_or_else(|error| panic!("{}: {error}", definition.name))
}

#[test]
fn every_option_is_explained() {
    for definition in all() {
        let (name, summary, description) = (definition.name, definition.summary, definition.description);
        assert!(!summary.is_empty() && !summary.ends_with('.'), "{name}: {summary}");
        assert!(description.ends_with('.') && description.is_ascii(), "{name}: {description}");
        assert!(!definition.commands.is_empty(), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
    }
}

#[test]
fn every_option_is_in_the_reference() {
    let sections: BTreeSet<_> = Section::ALL.into_iter().collect();
    assert_eq!(sections.len(), Section::ALL.len());
    assert!(all().all(|definition| sections.contains(&definition.section)));
}

#[test]
fn a_name_has_one_meaning_for_a_command() {
    for command in Command::all() {
        let mut names = BTreeSet::new();
        for definition in of_command(command) {
            assert!(names.insert(definition.name), "{} of {}", definition.name, command.name());
        }
    }
}

#[test]
fn the_meanings_of_a_name_agree_in_form() {
    // To be meant for a command alone is of that command's meaning; what else is said of the place holds for a name.
    let place = |definition: &Definition| match definition.place {
        Place::Command => Place::Global,
        place => place,
    };
    for one in all() {
        for other in all().filter(|other| other.name == one.name) {
            assert_eq!(one.group, other.group, "{}", one.name);
            assert_eq!(place(one), place(other), "{}", one.name);
            assert_eq!(one.kind.is_multiple(), other.kind.is_multiple(), "{}", one.name);
            let is_boolean = |definition: &Definition| matches!(definition.kind, Kind::Boolean);
            assert_eq!(is_boolean(one), is_boolean(other), "{}", one.name);
        }
    }
}

#[test]
fn a_group_is_the_beginning_of_the_name() {
    for definition in all() {
        if let Some(group) = definition.group {
            assert!(definition.name.starts_with(&format!("{}-", group.prefix())), "{}", definition.name);
        }
    }
}

#[test]
fn defaults_can_be_read_and_are_available() {
    for definition in all() {
        if let Some(default) = definition.default {
            read(definition, default);
        }
        if let Some(otherwise) = definition.dependency.and_then(|dependency| dependency.otherwise) {
            read(definition, otherwise);
        }
    }
}

#[test]
fn limits_can_be_read_and_are_in_order() {
    for definition in all() {
        let name = definition.name;
        match definition.kind {
            Kind::Integer { minimum, maximum } => assert!(minimum < maximum, "{name}"),
            Kind::Size(limits) => assert!(
                value::parse_size(limits.minimum).unwrap() < value::parse_size(limits.maximum).unwrap(),
                "{name}"
            ),
            Kind::Duration(limits) => assert!(
                value::parse_duration(limits.minimum).unwrap() < value::parse_duration(limits.maximum).unwrap(),
                "{name}"
            ),
            Kind::Choice(choices) => {
                let values: BTreeSet<_> = choices.iter().map(|choice| choice.value).collect();
                assert_eq!(values.len(), choices.len(), "{name}");
            }
            _ => {}
        }
    }
}

#[test]
fn what_an_option_depends_on_is_there_and_depends_on_nothing_that_leads_back() {
    for definition in all() {
        for command in definition.commands {
            let mut seen = BTreeSet::from([definition.name]);
            let mut next = definition.dependency;
            while let Some(dependency) = next {
                let other = find(dependency.on, *command)
                    .unwrap_or_else(|| panic!("{} needs {} of {}", definition.name, dependency.on, command.name()));
                assert!(seen.insert(other.name), "{} depends on itself", other.name);
                assert!(!other.is_later(), "{} depends on {}, which is not available", definition.name, other.name);
                if let Kind::Choice(choices) = other.kind {
                    let known = |value: &&str| choices.iter().any(|choice| choice.value == *value);
                    assert!(dependency.values.iter().all(known), "{} needs {dependency:?}", definition.name);
                }
                next = other.dependency;
            }
        }
    }
}

#[test]
fn an_old_name_leads_to_one_option() {
    for definition in all() {
        for old in definition.deprecated {
            let named = names::find(&old.replace('?', "1"), Spelling::Full).unwrap().unwrap();
            assert_eq!(named.address, address(definition), "{old}");
            assert!(!old.contains('?') || definition.group.is_some(), "{old}");
        }
    }
}

#[test]
fn no_available_command_wants_an_option_that_is_not() {
    // A required option that is not available could never be set.
    for command in Command::all().filter(|command| command.definition().available) {
        for definition in of_command(command) {
            let stuck = definition.required && definition.is_later() && definition.group.is_none();
            assert!(!stuck, "{} of {}", definition.name, command.name());
        }
    }
}
