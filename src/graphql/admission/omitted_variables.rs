//! Variables that a request leaves out.
//!
//! An argument whose variable is not given is itself not given (specification, section 6.4.1), and
//! front ends rely on it: one document serves the first page and the next. async-graphql refuses
//! such an argument where it works out the complexity. For a field's own argument, leaving out and
//! null are the same in this schema, so there the variable gets null as its default; within an
//! input object the two differ, and what is left out stays so.

use std::collections::HashSet;

use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Value as ConstValue, Variables};
use async_graphql_value::Value;

use crate::graphql::admission::operation;

/// Gives null to the nullable variables of an operation that are not given, but for those that an
/// input object or a list mentions.
pub fn null_omitted_variables(document: &mut ExecutableDocument, name: Option<&str>, given: &Variables) {
    let Some(operation) = operation::select_mut(document, name) else { return };
    let definitions = operation.node.variable_definitions.iter().map(|definition| &definition.node);
    let absent = definitions.filter(|variable| {
        let optional = variable.var_type.node.nullable && variable.default_value.is_none();
        optional && !given.contains_key(&variable.name.node)
    });
    let mut absent: HashSet<Name> = absent.map(|variable| variable.name.node.clone()).collect();
    if absent.is_empty() {
        return;
    }
    for set in selection_sets(document) {
        referenced_variables_in(set, &mut |name| {
            absent.remove(name);
        });
    }
    let operation = operation::select_mut(document, name);
    for definition in operation.into_iter().flat_map(|operation| &mut operation.node.variable_definitions) {
        if absent.contains(&definition.node.name.node) {
            definition.node.default_value = Some(Positioned::new(ConstValue::Null, definition.pos));
        }
    }
}

fn selection_sets(document: &ExecutableDocument) -> impl Iterator<Item = &SelectionSet> {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    operations.chain(document.fragments.values().map(|fragment| &fragment.node.selection_set.node))
}

/// Tells of each variable that a list or an input object mentions. It recurses as deep as the
/// document nests, which the guard has bounded.
fn referenced_variables_in(set: &SelectionSet, tell: &mut impl FnMut(&Name)) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                let Field { arguments, selection_set, .. } = &field.node;
                for (_, argument) in arguments.iter().filter(|(_, value)| !matches!(value.node, Value::Variable(_))) {
                    referenced_variables(&argument.node, tell);
                }
                referenced_variables_in(&selection_set.node, tell);
            }
            Selection::InlineFragment(inline) => referenced_variables_in(&inline.node.selection_set.node, tell),
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn referenced_variables(value: &Value, tell: &mut impl FnMut(&Name)) {
    match value {
        Value::Variable(name) => tell(name),
        Value::List(items) => items.iter().for_each(|item| referenced_variables(item, tell)),
        Value::Object(fields) => fields.values().for_each(|field| referenced_variables(field, tell)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    #[test]
    fn what_is_left_out_of_an_argument_is_null_and_of_an_input_object_stays_out() {
        for (document, nulls) in [
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
            assert_eq!(defaults.count(), nulls, "{document}");
        }
    }
}
