//! Attributes for tests that run on a database engine.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, FnArg, Ident, ItemFn, Result, Token, Type, parse_macro_input};

/// Declares a test that runs on each database engine.
///
/// The test becomes two test functions, `name::sqlite` and `name::postgres`, which can be run alone and run in
/// parallel. `name::postgres` is skipped if no PostgreSQL is configured, see `testkit::postgres_is_available`.
///
/// The function takes one of these parameters:
/// - `app: &TestApp`: a running server with an empty database. `#[engine_test(settings = [("PARLOR_X", "1")])]` starts
///   the server with settings, which may be any expression.
/// - `engine: Engine`: for tests that start their servers themselves. Such a function may be `async` or not.
#[proc_macro_attribute]
pub fn engine_test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let settings = parse_macro_input!(arguments as Settings);
    let function = parse_macro_input!(item as ItemFn);
    expand_engine_test(settings, function).unwrap_or_else(Error::into_compile_error).into()
}

/// Declares an asynchronous test that runs on PostgreSQL only, as `name::postgres`.
///
/// The test is skipped if no PostgreSQL is configured, see `testkit::postgres_is_available`.
#[proc_macro_attribute]
pub fn postgres_test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    if !arguments.is_empty() {
        let message = "postgres_test takes no arguments";
        return Error::new_spanned(Tokens::from(arguments), message).into_compile_error().into();
    }
    expand_postgres_test(function).unwrap_or_else(Error::into_compile_error).into()
}

/// The arguments of `engine_test`.
struct Settings(Option<Expr>);

impl Parse for Settings {
    fn parse(input: ParseStream) -> Result<Self> {
        if input.is_empty() {
            return Ok(Self(None));
        }
        let name: Ident = input.parse()?;
        if name != "settings" {
            return Err(Error::new(name.span(), "the only argument is `settings = ...`"));
        }
        input.parse::<Token![=]>()?;
        Ok(Self(Some(input.parse()?)))
    }
}

fn expand_engine_test(Settings(settings): Settings, mut function: ItemFn) -> Result<Tokens> {
    let takes_app = match function.sig.inputs.first() {
        Some(FnArg::Typed(parameter)) if function.sig.inputs.len() == 1 => {
            matches!(*parameter.ty, Type::Reference(_))
        }
        _ => {
            let message = "an engine test takes one parameter: `app: &TestApp` or `engine: Engine`";
            return Err(Error::new_spanned(&function.sig, message));
        }
    };
    let is_async = function.sig.asyncness.is_some();
    if takes_app && !is_async {
        return Err(Error::new_spanned(&function.sig, "a test that takes an app is `async`"));
    }
    if let Some(settings) = settings.as_ref().filter(|_| !takes_app) {
        return Err(Error::new_spanned(settings, "a test that takes an engine starts its servers itself"));
    }
    let name = function.sig.ident.clone();
    let attributes = std::mem::take(&mut function.attrs);
    let definition = if takes_app {
        function.sig.ident = format_ident!("test");
        let settings = settings.map_or_else(|| quote!([]), |settings| quote!(#settings));
        quote! {
            async fn #name(engine: ::testkit::Engine) {
                #function
                ::testkit::with_app(engine, &#settings, test).await
            }
        }
    } else {
        quote!(#function)
    };
    let (test, asyncness, wait) = harness(is_async);
    Ok(quote! {
        #definition

        mod #name {
            #(#attributes)*
            #test
            #asyncness fn sqlite() {
                super::#name(::testkit::Engine::Sqlite) #wait
            }

            #(#attributes)*
            #test
            #asyncness fn postgres() {
                if ::testkit::postgres_is_available() {
                    super::#name(::testkit::Engine::Postgres) #wait
                }
            }
        }
    })
}

fn expand_postgres_test(mut function: ItemFn) -> Result<Tokens> {
    if function.sig.asyncness.is_none() || !function.sig.inputs.is_empty() {
        return Err(Error::new_spanned(&function.sig, "a PostgreSQL test is `async` and takes no parameter"));
    }
    let name = function.sig.ident.clone();
    let attributes = std::mem::take(&mut function.attrs);
    let (test, ..) = harness(true);
    Ok(quote! {
        #function

        mod #name {
            #(#attributes)*
            #test
            async fn postgres() {
                if ::testkit::postgres_is_available() {
                    super::#name().await
                }
            }
        }
    })
}

/// Returns the attribute, the keyword and the call's suffix of a test function.
fn harness(is_async: bool) -> (Tokens, Tokens, Tokens) {
    if is_async {
        (quote!(#[::tokio::test(flavor = "multi_thread")]), quote!(async), quote!(.await))
    } else {
        (quote!(#[test]), quote!(), quote!())
    }
}
