//! Addresses in a text: URLs of the web, `www.` hosts and mail addresses.
//!
//! An address ends before closing punctuation of any script, as in `“https://example.com”` and
//! `(https://example.com)。`.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::ops::Range;

use ammonia::url::Url;
use unicode_normalization::UnicodeNormalization;

use crate::domain::characters::is_default_ignorable;
use crate::domain::markdown::classes::{is_of_script_without_spaces, is_punctuation_or_symbol};

/// The maximum length of a link's URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// The maximum length of a mail address before its `@`, in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_PART_BYTES: usize = 64;

/// The allowed beginnings of a URL.
///
/// They include `//`, because browsers take `https:evil` as a path of the current site.
pub const URL_PREFIXES: [&str; 3] = ["http://", "https://", "mailto:"];

/// Markup and quotation marks before an address, each with its end, at which the address ends.
const ENCLOSING: [(&str, &str); 4] = [("**", "**"), ("~~", "~~"), ("'", "'"), ("‘", "’")];

/// The characters that begin the path, the query or the fragment of a URL.
const HOST_ENDS: [char; 3] = ['/', '?', '#'];

/// Punctuation that ends an address unless it is within a word, as in the title of an article.
const PUNCTUATION_IN_WORDS: [char; 5] = ['·', '’', '‧', '״', '–'];

/// An address in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub range: Range<usize>,
    /// The part of the URL before the text of the address.
    prefix: &'static str,
}

impl Address {
    /// Returns the address as it is shown, without the backslashes of escaped markup.
    pub fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let address = &text[self.range.clone()];
        if address.contains('\\') { address.replace('\\', "").into() } else { address.into() }
    }

    pub fn url(&self, text: &str) -> String {
        format!("{}{}", self.prefix, self.shown(text))
    }
}

/// Returns whether a link may have this URL.
pub fn is_safe_url(url: &str) -> bool {
    url.len() <= MAX_URL_BYTES
        && URL_PREFIXES.into_iter().any(|prefix| starts_with(url, prefix))
        && !url.contains(char::is_control)
        && Url::parse(url).is_ok()
}

/// Returns the addresses in a text, in their order.
pub fn find_addresses(text: &str) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    let mut position = 0;
    while let Some(found) = text[position..].find(['h', 'H', 'w', 'W', '@']) {
        let start = position + found;
        let (address, end) = match text.as_bytes()[start] {
            b'@' => mail_address(text, addresses.last().map_or(0, |address| address.range.end), start),
            _ => web_address(text, start),
        };
        addresses.extend(address);
        position = end;
    }
    addresses
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Returns the URL or host that begins at a position, if any, and the position after it.
fn web_address(text: &str, start: usize) -> (Option<Address>, usize) {
    let before = text[..start].chars().next_back();
    let rest = &text[start..];
    let prefix_len = ["https://", "http://"].into_iter().find(|prefix| starts_with(rest, prefix)).map(str::len);
    let is_host = prefix_len.is_none() && starts_with(rest, "www.");
    let follows_word = before.is_some_and(|before| {
        before.is_ascii_alphanumeric() || (is_host && matches!(before, '/' | '.' | '@' | '-' | '_' | ':'))
    });
    if follows_word || (prefix_len.is_none() && !is_host) {
        return (None, start + 1);
    }
    let scheme_end = start + prefix_len.unwrap_or(0);
    let enclosing = ENCLOSING.into_iter().find(|(opening, _)| text[..start].ends_with(opening));
    let (len, run_len) = address_len(&text[scheme_end..], enclosing.map(|(_, closing)| closing));
    let end = scheme_end + len;
    let address = Address { range: start..end, prefix: if is_host { "https://" } else { "" } };
    let is_complete = !is_host || host_of(&text[start..end]).matches('.').count() >= 2;
    if len > 0 && is_complete && is_safe_url(&address.url(text)) {
        return (Some(address), end);
    }
    (None, scheme_end + run_len)
}

/// Returns the length of the address with which a text begins, and of the text that was examined.
///
/// The address is given without its scheme. It ends at `closing`, even if more text follows without a space.
fn address_len(text: &str, closing: Option<&str>) -> (usize, usize) {
    let host_len = run_len(text, closing, &HOST_ENDS);
    let after_host = &text[host_len..];
    if let Some(len) = top_level_domain_end(&text[..host_len]) {
        return (len, len);
    }
    let path_len = if after_host.starts_with(HOST_ENDS) { run_len(after_host, closing, &[]) } else { 0 };
    let run_len = host_len + path_len;
    (trim_end(&text[..run_len]).len(), run_len)
}

fn host_of(address: &str) -> &str {
    &address[..address.find(HOST_ENDS).unwrap_or(address.len())]
}

/// Returns the length of the text before the first character that ends an address.
fn run_len(text: &str, closing: Option<&str>, ends: &[char]) -> usize {
    let mut open_brackets = [0_usize; 3];
    let mut before = '/';
    let mut rest = text.char_indices().peekable();
    while let Some((position, character)) = rest.next() {
        let after = rest.peek().map(|(_, after)| *after);
        let is_closed = closing.is_some_and(|closing| text[position..].starts_with(closing));
        let is_end = is_closed || ends.contains(&character) || ends_address(before, character, after);
        if is_end || !is_balanced(&mut open_brackets, character) {
            return position;
        }
        before = character;
    }
    text.len()
}

fn ends_address(before: char, character: char, after: Option<char>) -> bool {
    match character {
        '<' | '>' | '"' | '`' | '|' | '^' => true,
        '\\' => !matches!(after, Some('*' | '_' | '~')),
        _ if character.is_ascii_graphic() => false,
        _ if PUNCTUATION_IN_WORDS.contains(&character) => {
            !(before.is_alphanumeric() && after.is_some_and(char::is_alphanumeric))
        }
        _ => {
            character.is_whitespace()
                || character.is_control()
                || is_default_ignorable(character)
                || is_punctuation_or_symbol(character)
        }
    }
}

/// Counts a bracket, and returns whether each closing one had an opening one.
fn is_balanced(open_brackets: &mut [usize; 3], character: char) -> bool {
    let is_kind = |brackets: &str| brackets.contains(character);
    let Some(kind) = ["()", "[]", "{}"].into_iter().position(is_kind) else { return true };
    if matches!(character, '(' | '[' | '{') {
        open_brackets[kind] += 1;
        return true;
    }
    let has_opening = open_brackets[kind] > 0;
    open_brackets[kind] = open_brackets[kind].saturating_sub(1);
    has_opening
}

/// Returns an address without the punctuation and markup that belong to the text around it.
fn trim_end(address: &str) -> &str {
    address.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '_', '~', '(', '[', '{', '\\'])
}

/// Returns where a host ends if text follows its last label without a space, as in `example.comを見て`.
///
/// A top-level domain has letters of ASCII only, or none.
fn top_level_domain_end(host: &str) -> Option<usize> {
    let host = trim_end(host);
    let label_start = host.rfind('.')? + 1;
    let label = &host[label_start..];
    let is_ascii = label.starts_with(|first: char| first.is_ascii_alphanumeric());
    label.find(|character: char| !character.is_ascii()).filter(|_| is_ascii).map(|end| label_start + end)
}

/// Returns the mail address around an `@`, if any, and the position after it.
///
/// It begins after `earliest`, where the address before it ends.
fn mail_address(text: &str, earliest: usize, at: usize) -> (Option<Address>, usize) {
    let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b".+-_%".contains(byte);
    let before = &text.as_bytes()[earliest..at];
    let local_len = before.iter().rev().take(MAX_LOCAL_PART_BYTES + 1).take_while(|byte| is_local(byte)).count();
    let local = text[at - local_len..at].trim_start_matches(['.', '+', '-', '_', '%']);
    let start = at - local.len();
    let domain = &text[at + 1..];
    let is_domain = |character: char| character.is_alphanumeric() || matches!(character, '.' | '-');
    let domain = &domain[..domain.find(|character| !is_domain(character)).unwrap_or(domain.len())];
    let domain = domain.trim_end_matches(['.', '-']);
    let domain = &domain[..top_level_domain_end(domain).unwrap_or(domain.len())];
    let address = Address { range: start..at + 1 + domain.len(), prefix: "mailto:" };
    let follows_word = text[..start].chars().next_back().is_some_and(|before| {
        matches!(before, '/' | '@') || (before.is_alphanumeric() && !is_of_script_without_spaces(before))
    });
    let is_address = !local.is_empty()
        && local_len <= MAX_LOCAL_PART_BYTES
        && !local.ends_with('.')
        && !follows_word
        && is_domain_name(domain)
        && is_safe_url(&address.url(text));
    if is_address {
        let end = address.range.end;
        return (Some(address), end);
    }
    (None, at + 1)
}

/// Returns whether a text is a domain name with at least two labels, the last one of letters.
fn is_domain_name(text: &str) -> bool {
    let is_top_level = |label: &str| label.chars().count() >= 2 && label.chars().all(char::is_alphabetic);
    let is_punycode = |label: &str| label.starts_with("xn--");
    let Some((_, last)) = text.rsplit_once('.') else { return false };
    (is_top_level(last) || is_punycode(last)) && text.split('.').all(|label| !label.is_empty())
}

/// Returns whether the text of a link names another address than the link leads to.
///
/// Addresses are compared as they look: without invisible characters, and with wide letters as the ordinary ones.
pub fn names_other_address(shown: &str, url: &str) -> bool {
    if shown.contains(|character| matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')) {
        return true;
    }
    let Ok(target) = Url::parse(url) else { return true };
    let shown: String = shown.chars().filter(|character| !is_default_ignorable(*character)).nfkc().collect();
    let shown = shown.to_lowercase();
    let url = url.to_lowercase();
    let target_name = without_scheme(&url);
    let mut rest_start = 0;
    for address in find_addresses(&shown) {
        let is_other = without_scheme(&address.shown(&shown)) != target_name;
        if is_other || names_other_host(&shown[rest_start..address.range.start], &target) {
            return true;
        }
        rest_start = address.range.end;
    }
    names_other_host(&shown[rest_start..], &target)
}

/// Returns a URL without its scheme, `www.` and the slash at its end.
fn without_scheme(url: &str) -> &str {
    let url = URL_PREFIXES.into_iter().find_map(|prefix| url.strip_prefix(prefix)).unwrap_or(url);
    without_www(url).trim_end_matches('/')
}

fn without_www(name: &str) -> &str {
    name.strip_prefix("www.").unwrap_or(name)
}

/// Returns whether a text has a domain name or an IP address other than the host of a URL.
fn names_other_host(text: &str, url: &Url) -> bool {
    let is_in_name = |character: char| character.is_alphanumeric() || matches!(character, '.' | '-');
    let names = text.split(|character| !is_in_name(character)).map(|name| name.trim_matches(['.', '-']));
    names.filter(|name| is_domain_name(name) || name.parse::<Ipv4Addr>().is_ok()).any(|name| {
        // The parser writes names of other scripts as the URL has them.
        let named = Url::parse(&format!("http://{name}"));
        let [named, host] = [named.as_ref().ok(), Some(url)].map(|url| url.and_then(Url::host_str).map(without_www));
        named.is_none() || named != host
    })
}
