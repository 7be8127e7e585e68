//! HTTP requests with explicit headers, and connections whose bytes a test reads itself.

use std::net::SocketAddr;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{TIMEOUT, TestApp, User, http_client};

/// An HTTP response.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// Returns the values of a header, joined by commas.
    pub fn header(&self, name: &str) -> String {
        let lines: Vec<_> = self.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect();
        lines.join(", ")
    }

    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Returns the code of the first error.
    #[track_caller]
    pub fn code(&self) -> String {
        let json = self.json();
        json["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no error: {json}")).to_owned()
    }

    /// Asserts a request error: this status and code, and no `data` entry, not even null.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{:?}", self.body);
        assert_eq!(self.json().get("data"), None);
    }

    /// Returns the message of the first error.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A response whose text arrives bit by bit, such as an event stream.
pub struct TextStream {
    response: reqwest::Response,
    /// The text that has been received and not taken.
    pub text: String,
}

impl TextStream {
    /// Sends an operation, and asserts that the response is delivered without a cache and without a delay.
    pub async fn open(app: &TestApp, token: &str, headers: &[(&str, &str)], query: &str, variables: Value) -> Self {
        let request =
            http_client().post(app.url("/graphql")).bearer_auth(token).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.body(graphql_body(query, variables)).send().await.expect("a response");
        assert_eq!(response.status(), 200);
        let stream = Self { response, text: String::new() };
        assert_eq!(stream.header("cache-control"), Some("no-store"));
        assert_eq!(stream.header("x-accel-buffering"), Some("no"), "nginx must not buffer events");
        stream
    }

    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().expect("text"))
    }

    /// Reads more of the body until the text has a property; returns false if the body ends before.
    pub async fn read_until(&mut self, is_read: impl Fn(&str) -> bool) -> bool {
        while !is_read(&self.text) {
            let chunk = timeout(TIMEOUT, self.response.chunk()).await.expect("a chunk in time");
            let Some(chunk) = chunk.expect("a complete chunk") else { return false };
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
        true
    }
}

/// Sends a request with these headers.
pub async fn request(
    app: &TestApp,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Response {
    let mut request = http_client().request(method, app.url(path)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("a response");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Response { status, headers, body: response.bytes().await.expect("a whole body") }
}

/// Sends a POST request to `/graphql` with a JSON body.
pub async fn post(app: &TestApp, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Response {
    let content_type = [("content-type", "application/json")];
    request(app, Method::POST, "/graphql", &[&content_type, headers].concat(), body).await
}

/// Sends a GET request to `/graphql` with these parameters.
pub async fn get(app: &TestApp, headers: &[(&str, &str)], parameters: &[(&str, &str)]) -> Response {
    let url = Url::parse_with_params("http://host/graphql", parameters).expect("an address");
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    request(app, Method::GET, &path, headers, "").await
}

/// Returns the JSON body of a GraphQL request.
pub fn graphql_body(query: &str, variables: Value) -> String {
    json!({ "query": query, "variables": variables }).to_string()
}

/// Returns the `Authorization` header of a user.
pub fn bearer(user: &User) -> String {
    format!("Bearer {}", user.token)
}

/// Returns the status and the text of an endpoint such as `/readyz`; `None` without an answer.
pub async fn probe(addr: SocketAddr, path: &str) -> Option<(u16, String)> {
    let response = http_client().get(format!("http://{addr}{path}")).send().await.ok()?;
    Some((response.status().as_u16(), response.text().await.ok()?))
}

/// Returns everything that the server sends until it closes or aborts the connection.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match timeout(TIMEOUT, stream.read(&mut buffer)).await.expect("the server closes the connection") {
            Ok(0) | Err(_) => return String::from_utf8(received).expect("text"),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
        }
    }
}
