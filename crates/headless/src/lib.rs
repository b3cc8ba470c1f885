//! A user agent without JavaScript: forms are read and sent, redirects are followed, cookies kept.
//!
//! `tokenvault demo` and `dev-token` go through the pages with it, and so do the acceptance tests: what it can do, a
//! person without scripts can do.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Client, Method, StatusCode, Url, header};
use serde_json::Value;

/// The most pages one errand may lead through.
pub const MOST_HOPS: usize = 20;

/// A user agent: a cookie jar and a reader of forms.
pub struct Agent {
    http: Client,
    /// By host and name.
    cookies: BTreeMap<(String, String), String>,
    /// Origins that are reached elsewhere.
    detours: Vec<(String, String)>,
}

/// An answer that stopped the agent: a page, or a redirect to somewhere it was told not to follow.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Where it stopped.
    pub url: Url,
    /// The page; empty for a redirect.
    pub page: String,
    /// The page's status; of a redirect, the redirect's.
    pub status: StatusCode,
}

impl Stop {
    /// A parameter of the address it stopped at.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.url
            .query_pairs()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }

    /// A parameter of a redirect that has to be there.
    ///
    /// # Errors
    /// A redirect with `error`, and a page.
    pub fn answer(&self, name: &str) -> Result<String> {
        if self.parameter("error").is_some() {
            let query = self.url.query().unwrap_or_default();
            bail!("the answer is an error: {query}");
        }
        self.parameter(name).with_context(|| {
            let place = without_query(&self.url);
            format!("no '{name}' at {place}: {}", heading(&self.page))
        })
    }

    /// Whether the page asks for a password.
    pub fn asks_for_password(&self) -> bool {
        self.page.contains("name=\"password\"")
    }

    /// The value of a hidden field of the first form.
    pub fn field(&self, name: &str) -> Option<String> {
        let form = Form::first(self).ok()?;
        form.fields
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    fn or_failure(self) -> Result<Self> {
        if self.page.is_empty() || self.status == StatusCode::OK {
            return Ok(self);
        }
        bail!(
            "{} answered {}: {}",
            without_query(&self.url),
            self.status,
            heading(&self.page)
        )
    }
}

/// A form of a page: where it goes and what it already holds. Its first button is the main choice.
struct Form {
    action: Url,
    method: Method,
    fields: Vec<(String, String)>,
    names: Vec<String>,
}

impl Agent {
    /// An agent that trusts one certificate authority, as PEM.
    pub fn trusting(ca_pem: &[u8]) -> Result<Self> {
        let authority = reqwest::Certificate::from_pem(ca_pem)?;
        Self::with(Client::builder().tls_certs_only([authority]))
    }

    /// An agent that reaches each first origin at the second one: as a proxy that ends TLS would.
    pub fn with_detours(detours: &[(&str, &str)]) -> Result<Self> {
        let mut agent = Self::with(Client::builder().tls_certs_only([]))?;
        agent.detours = detours
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect();
        Ok(agent)
    }

    fn with(builder: reqwest::ClientBuilder) -> Result<Self> {
        let http = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            cookies: BTreeMap::new(),
            detours: Vec::new(),
        })
    }

    /// The plain client, for requests that need their own headers and bodies.
    pub fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.reached(url))
    }

    /// What the agent would send as a cookie.
    pub fn cookie(&self, host: &str, name: &str) -> Option<&str> {
        self.cookies
            .get(&(host.to_owned(), name.to_owned()))
            .map(String::as_str)
    }

    /// Every cookie value that is kept.
    pub fn cookie_values(&self) -> impl Iterator<Item = &str> {
        self.cookies.values().map(String::as_str)
    }

    /// Puts a cookie into the jar, as an attacker would.
    pub fn set_cookie(&mut self, host: &str, name: &str, value: &str) {
        self.cookies
            .insert((host.to_owned(), name.to_owned()), value.to_owned());
    }

    /// Forgets every cookie.
    pub fn clear_cookies(&mut self) {
        self.cookies.clear();
    }

    fn reached(&self, url: &str) -> String {
        self.detours
            .iter()
            .find_map(|(from, to)| Some(format!("{to}{}", url.strip_prefix(from.as_str())?)))
            .unwrap_or_else(|| url.to_owned())
    }

    /// Opens a URL and goes on until a page, or a redirect to `until`.
    ///
    /// # Errors
    /// A page with another status than 200 is one.
    pub async fn open(&mut self, url: &str, until: &str) -> Result<Stop> {
        self.open_any(url, until).await?.or_failure()
    }

    /// The same, whatever the page's status is.
    pub async fn open_any(&mut self, url: &str, until: &str) -> Result<Stop> {
        self.send(Method::GET, Url::parse(url)?, None, until).await
    }

    /// Fills in the first form of a page and presses its first button, or the one that `values` names.
    ///
    /// # Errors
    /// A page with another status than 200 is one.
    pub async fn submit(
        &mut self,
        stop: &Stop,
        values: &[(&str, &str)],
        until: &str,
    ) -> Result<Stop> {
        self.submit_any(stop, values, until).await?.or_failure()
    }

    /// The same, whatever the page's status is.
    pub async fn submit_any(
        &mut self,
        stop: &Stop,
        values: &[(&str, &str)],
        until: &str,
    ) -> Result<Stop> {
        let form = Form::first(stop)?;
        let mut fields = form.fields;
        for (name, value) in values {
            if !form.names.iter().any(|known| known == name) {
                bail!(
                    "the form at {} has no field '{name}'",
                    without_query(&stop.url)
                );
            }
            fields.retain(|(known, _)| known != name);
            fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.send(form.method, form.action, Some(fields), until)
            .await
    }

    /// Posts fields that no page holds, as an attacker who has this browser would.
    pub async fn post(&mut self, url: &str, fields: &[(&str, &str)], until: &str) -> Result<Stop> {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.send(Method::POST, Url::parse(url)?, Some(fields), until)
            .await
    }

    async fn send(
        &mut self,
        mut method: Method,
        mut url: Url,
        mut fields: Option<Vec<(String, String)>>,
        until: &str,
    ) -> Result<Stop> {
        for _ in 0..MOST_HOPS {
            let host = url.host_str().unwrap_or_default().to_owned();
            let cookies: Vec<String> = self
                .cookies
                .iter()
                .filter(|((owner, _), _)| *owner == host)
                .map(|((_, name), value)| format!("{name}={value}"))
                .collect();
            let mut request = self.request(method.clone(), url.as_str());
            if !cookies.is_empty() {
                request = request.header(header::COOKIE, cookies.join("; "));
            }
            if let Some(fields) = &fields {
                request = match method {
                    Method::GET => request.query(fields),
                    _ => request
                        .header(header::ORIGIN, url.origin().ascii_serialization())
                        .form(fields),
                };
            }
            let answer = request
                .send()
                .await
                .with_context(|| format!("asking {}", without_query(&url)))?;
            for cookie in answer.headers().get_all(header::SET_COOKIE) {
                self.keep_cookie(&host, cookie.to_str()?);
            }
            let status = answer.status();
            if status.is_redirection() {
                let location = answer
                    .headers()
                    .get(header::LOCATION)
                    .context("a redirect without Location")?
                    .to_str()?;
                let next = url.join(location)?;
                if next.as_str().starts_with(until) {
                    return Ok(Stop {
                        url: next,
                        page: String::new(),
                        status,
                    });
                }
                (method, url, fields) = (Method::GET, next, None);
                continue;
            }
            let page = answer.text().await?;
            return Ok(Stop { url, page, status });
        }
        bail!("too many redirects, the last to {}", without_query(&url))
    }

    fn keep_cookie(&mut self, host: &str, text: &str) {
        let mut parts = text.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let gone =
            value.is_empty() || parts.any(|part| part.trim().eq_ignore_ascii_case("max-age=0"));
        let key = (host.to_owned(), name.trim().to_owned());
        if gone {
            self.cookies.remove(&key);
        } else {
            self.cookies.insert(key, value.trim().to_owned());
        }
    }

    /// A call of an API: JSON in, JSON out, with the status.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let mut request = self.request(method, url);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("asking {url}"))?;
        let status = answer.status();
        let text = answer.text().await?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok((status, body))
    }

    /// The same, where anything but success is a failure of the errand.
    pub async fn expect(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value> {
        let (status, answer) = self.call(method, url, bearer, body).await?;
        if !status.is_success() {
            bail!("{url} answered {status}: {answer}");
        }
        Ok(answer)
    }
}

impl Form {
    fn first(stop: &Stop) -> Result<Self> {
        let nothing = || {
            anyhow!(
                "there is no form at {}: {}",
                without_query(&stop.url),
                heading(&stop.page)
            )
        };
        let start = stop.page.find("<form").ok_or_else(nothing)?;
        let rest = stop.page.get(start..).unwrap_or_default();
        let form = rest.split("</form>").next().unwrap_or_default();
        let head = form.split('>').next().unwrap_or_default();
        let action = stop
            .url
            .join(&attribute(head, "action").unwrap_or_default())?;
        let method = match attribute(head, "method").as_deref() {
            Some(method) if method.eq_ignore_ascii_case("post") => Method::POST,
            _ => Method::GET,
        };
        let mut fields = Vec::new();
        let mut names = Vec::new();
        let mut button = None;
        for tag in form.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            let Some(name) = attribute(tag, "name") else {
                continue;
            };
            let value = attribute(tag, "value").unwrap_or_default();
            if tag.starts_with("input") {
                names.push(name.clone());
                fields.push((name, value));
            } else if tag.starts_with("button") {
                names.push(name.clone());
                button = button.or(Some((name, value)));
            }
        }
        fields.extend(button);
        Ok(Self {
            action,
            method,
            fields,
            names,
        })
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = tag.get(start..)?.split('"').next()?;
    Some(
        value
            .replace("&#38;", "&")
            .replace("&amp;", "&")
            .replace("&#34;", "\"")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&#60;", "<")
            .replace("&lt;", "<"),
    )
}

/// What a page says first, to put into an error.
fn heading(page: &str) -> String {
    let text = page
        .split_once("<h1")
        .and_then(|(_, rest)| rest.split_once('>'))
        .and_then(|(_, rest)| rest.split_once("</h1>"))
        .map_or(page, |(text, _)| text);
    text.trim().chars().take(300).collect()
}

fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_first_button() {
        let stop = Stop {
            url: Url::parse("https://vault.example/u/login?state=1").unwrap(),
            page: r#"<h1>Log in</h1><form method="post" action="/u/login?a=1&amp;b=2">
                <input type="hidden" name="csrf" value="t&#34;k"><input name="username" value="">
                <button name="action" value="default">Go</button>
                <button name="action" value="other">No</button></form>"#
                .to_owned(),
            status: StatusCode::OK,
        };
        let form = Form::first(&stop).unwrap();
        assert_eq!(form.method, Method::POST);
        assert_eq!(
            form.action.as_str(),
            "https://vault.example/u/login?a=1&b=2"
        );
        assert_eq!(
            form.fields,
            [
                ("csrf".to_owned(), "t\"k".to_owned()),
                ("username".to_owned(), String::new()),
                ("action".to_owned(), "default".to_owned()),
            ]
        );
    }
}
