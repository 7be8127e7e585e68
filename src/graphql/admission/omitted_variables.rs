//! Variables that a request leaves out.
//!
//! An argument whose variable is missing is itself missing (specification, section 6.4.1), and front ends rely on
//! it: one document serves the first page and the next. async-graphql rejects such an argument when it computes
//! the complexity. In this schema, a missing argument of a field means the same as null, so its variable gets null
//! as the default value. Within an input object the two differ, so there the variable stays missing.

use std::collections::HashSet;

use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Value as ConstValue, Variables};
use async_graphql_value::Value;

use crate::graphql::admission::operation;

/// Gives the missing nullable variables of an operation the default value null.
///
/// Variables within an input object or a list are excepted.
pub fn null_omitted_variables(document: &mut ExecutableDocument, name: Option<&str>, given: &Variables) {
    let Some(operation) = operation::select_mut(document, name) else { return };
    let definitions = operation.node.variable_definitions.iter().map(|definition| &definition.node);
    let missing = definitions.filter(|variable| {
        let is_optional = variable.var_type.node.nullable && variable.default_value.is_none();
        is_optional && !given.contains_key(&variable.name.node)
    });
    let mut missing: HashSet<Name> = missing.map(|variable| variable.name.node.clone()).collect();
    if missing.is_empty() {
        return;
    }
    for set in selection_sets(document) {
        referenced_variables_in(set, &mut |name| {
            missing.remove(name);
        });
    }
    let operation = operation::select_mut(document, name);
    for definition in operation.into_iter().flat_map(|operation| &mut operation.node.variable_definitions) {
        if missing.contains(&definition.node.name.node) {
            definition.node.default_value = Some(Positioned::new(ConstValue::Null, definition.pos));
        }
    }
}

fn selection_sets(document: &ExecutableDocument) -> impl Iterator<Item = &SelectionSet> {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    operations.chain(document.fragments.values().map(|fragment| &fragment.node.selection_set.node))
}

/// Calls `on_variable` for each variable within a list or an input object of a selection set.
///
/// It recurses as deep as the document nests, which
/// [`document_limits`](crate::graphql::admission::document_limits) has bounded.
fn referenced_variables_in(set: &SelectionSet, on_variable: &mut impl FnMut(&Name)) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                let Field { arguments, selection_set, .. } = &field.node;
                for (_, argument) in arguments.iter().filter(|(_, value)| !matches!(value.node, Value::Variable(_))) {
                    referenced_variables(&argument.node, on_variable);
                }
                referenced_variables_in(&selection_set.node, on_variable);
            }
            Selection::InlineFragment(inline) => referenced_variables_in(&inline.node.selection_set.node, on_variable),
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn referenced_variables(value: &Value, on_variable: &mut impl FnMut(&Name)) {
    match value {
        Value::Variable(name) => on_variable(name),
        Value::List(items) => items.iter().for_each(|item| referenced_variables(item, on_variable)),
        Value::Object(fields) => fields.values().for_each(|field| referenced_variables(field, on_variable)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    #[test]
    fn missing_variable_becomes_null_in_arguments_but_not_in_input_objects() {
        for (document, expected) in [
            ("query($a: Int) { f(x: $a) }", 1),
            ("query($a: Int, $b: Int) { f(x: $a) { ...F } } fragment F on T { g(y: { z: [$b] }) }", 1),
            ("query($a: Int) { f(x: $a, y: { z: $a }) }", 0),
            ("query($a: Int!) { f(x: $a) }", 0),
            ("query($given: Int) { f(x: $given) }", 0),
            ("query A($a: Int) { f(x: $a) }", 1),
        ] {
            let mut parsed = parse_query(document).unwrap();
            let mut given = Variables::default();
            given.insert(Name::new("given"), 1.into());
            null_omitted_variables(&mut parsed, None, &given);
            let definitions = &operation::select(&parsed, None).unwrap().node.variable_definitions;
            let defaults = definitions.iter().filter(|definition| definition.node.default_value.is_some());
            assert_eq!(defaults.count(), expected, "{document}");
        }
    }
}
