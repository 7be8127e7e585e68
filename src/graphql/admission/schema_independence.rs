//! The documents that reveal nothing of the schema, which a client without a token may send.
//!
//! The functions recurse as deep as the document's brackets nest, which
//! [`document_limits`](crate::graphql::admission::document_limits) has bounded.

use async_graphql::parser::types::{BaseType, ExecutableDocument, Field, OperationDefinition, Selection, Type};

/// Returns whether the validation of a document cannot depend on the schema.
///
/// Such a document has no fragments, its operations select only `__typename`, `__schema` and `__type` at their root,
/// and its variables have built-in types. A client that must not see the schema may send it: no answer can confirm a
/// guess.
pub fn is_schema_independent(document: &ExecutableDocument) -> bool {
    document.fragments.is_empty()
        && document.operations.iter().all(|(_, operation)| {
            let OperationDefinition { selection_set, variable_definitions, .. } = &operation.node;
            selection_set.node.items.iter().all(|selection| match &selection.node {
                Selection::Field(field) => field.node.name.node.starts_with("__") && !has_inline_fragments(&field.node),
                _ => false,
            }) && variable_definitions.iter().all(|definition| has_built_in_type(&definition.node.var_type.node))
        })
}

/// Returns whether an inline fragment is among the selections of a field, at any depth.
fn has_inline_fragments(field: &Field) -> bool {
    field.selection_set.node.items.iter().any(|selection| match &selection.node {
        Selection::Field(field) => has_inline_fragments(&field.node),
        _ => true,
    })
}

fn has_built_in_type(ty: &Type) -> bool {
    match &ty.base {
        BaseType::Named(name) => ["Int", "Float", "String", "Boolean", "ID"].contains(&name.as_str()),
        BaseType::List(item) => has_built_in_type(item),
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;
    use crate::graphql::admission::operation::tests::INTROSPECTION;

    #[test]
    fn document_is_independent_of_the_schema_if_it_only_introspects() {
        for (document, expected) in [
            ("{ __typename a: __typename }", true),
            ("query A { __typename } mutation B { __typename }", true),
            ("query($n: String!, $l: [ID!]) { __type(name: $n) { fields { name } } }", true),
            ("{ __schema { types { nothing } } }", true),
            (INTROSPECTION, false),
            ("{ chats { nodes { id } } }", false),
            ("{ __typename chats { nodes { id } } }", false),
            ("query A { __typename } query B { chats { nodes { id } } }", false),
            ("{ ... { __typename } }", false),
            ("{ ... on Chat { __typename } }", false),
            ("{ __schema { ... on Chat { id } } }", false),
            ("{ __typename } fragment F on Chat { id }", false),
            ("query($a: ChatFilter) { __typename }", false),
            ("query($a: [[ChatFilter]]) { __typename }", false),
        ] {
            assert_eq!(is_schema_independent(&parse_query(document).unwrap()), expected, "{document}");
        }
    }
}
