//! The statements in a log of PostgreSQL.

use std::collections::HashMap;
use std::io::BufRead;
use std::iter::Peekable;

/// The beginning of the name under which servers connect to PostgreSQL.
const APPLICATION: &str = "parlor";

/// A statement that a server ran.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The process of PostgreSQL that ran it, which serves one connection.
    pub process: String,
    pub sql: String,
    /// The beginnings of the texts of its parameters, by number. NULL is not listed.
    pub parameters: HashMap<usize, String>,
}

/// A message of the log, which may have several lines.
struct Message {
    process: String,
    application: String,
    severity: String,
    text: String,
}

/// Returns the statements of servers in a log, in their order.
pub fn entries(log: impl BufRead) -> impl Iterator<Item = Entry> {
    let mut messages = Messages { lines: lines(log).peekable() }.peekable();
    std::iter::from_fn(move || {
        loop {
            let Message { process, application, severity, text } = messages.next()?;
            let parameters = messages.next_if(|next| next.severity == "DETAIL" && next.process == process);
            if severity == "LOG"
                && application.starts_with(APPLICATION)
                && let Some(sql) = statement(&text)
            {
                let parameters = parameters.map(|detail| parse_parameters(&detail.text)).unwrap_or_default();
                return Some(Entry { process, sql: sql.to_owned(), parameters });
            }
        }
    })
}

/// Returns the lines of a log. Parameters are cut anywhere, so they may be no valid UTF-8.
fn lines(mut log: impl BufRead) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let length = log.read_until(b'\n', &mut line).expect("a readable log");
        (length > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
    })
}

struct Messages<L: Iterator<Item = String>> {
    lines: Peekable<L>,
}

impl<L: Iterator<Item = String>> Iterator for Messages<L> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            let line = self.lines.next()?;
            let Some(mut message) = Message::parse(&line) else { continue };
            // Further lines of a message begin with a tab.
            while let Some(line) = self.lines.next_if(|line| line.starts_with('\t')) {
                message.text.push('\n');
                message.text.push_str(&line[1..]);
            }
            return Some(message);
        }
    }
}

impl Message {
    fn parse(line: &str) -> Option<Self> {
        let (process, rest) = line.split_once(" {")?;
        let (application, rest) = rest.split_once("} ")?;
        let (severity, text) = rest.split_once(":  ")?;
        let [process, application, severity, text] = [process, application, severity, text].map(str::to_owned);
        process.bytes().all(|byte| byte.is_ascii_digit()).then_some(Self { process, application, severity, text })
    }
}

/// Returns the statement that was run by the simple protocol, or by the extended one under a name.
fn statement(text: &str) -> Option<&str> {
    let by_name = || text.strip_prefix("execute ")?.split_once(": ").map(|(_, sql)| sql);
    text.strip_prefix("statement: ").or_else(by_name)
}

/// Parses `parameters: $1 = 'text', $2 = NULL`, where a quote inside a text is doubled.
fn parse_parameters(detail: &str) -> HashMap<usize, String> {
    let mut parameters = HashMap::new();
    let mut rest = detail;
    while let Some((_, found)) = rest.split_once('$') {
        let Some((number, found)) = found.split_once(" = ") else { break };
        let (text, after) = split_quoted(found);
        if let (Ok(number), Some(text)) = (number.parse(), text) {
            parameters.insert(number, text);
        }
        rest = after;
    }
    parameters
}

/// Splits a quoted text from what follows it.
fn split_quoted(text: &str) -> (Option<String>, &str) {
    let Some(mut rest) = text.strip_prefix('\'') else { return (None, text) };
    let mut unquoted = String::new();
    while let Some((part, after)) = rest.split_once('\'') {
        unquoted.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                unquoted.push('\'');
                rest = after;
            }
            None => return (Some(unquoted), after),
        }
    }
    (None, "")
}
