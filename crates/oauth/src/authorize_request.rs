//! The authorization request (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1), read in two steps.
//!
//! [`Target`] first: until client and redirect URI are known to belong together, a refusal is a page. Then
//! [`AuthorizeRequest`]: from there on a refusal goes to the redirect URI.

use serde::{Deserialize, Serialize};

use crate::params::Params;
use crate::pkce::CodeChallenge;
use crate::refusal::{Code, Refusal};
use crate::scope::Scope;

/// Where an answer would go, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The `client_id`.
    pub client_id: String,
    /// The `redirect_uri`, which a request has to name.
    pub redirect_uri: String,
}

impl Target {
    /// Reads the two parameters that decide whom to trust with the rest.
    pub fn parse(params: &Params) -> Result<Self, Refusal> {
        let client_id = params.require("client_id")?;
        let redirect_uri = params.require("redirect_uri")?;
        if client_id.len() > 255 || redirect_uri.len() > crate::redirect_uri::MAX_LEN {
            return Err(Refusal::invalid_request(
                "target_too_long",
                "client_id or redirect_uri is too long.",
            ));
        }
        Ok(Self {
            client_id: client_id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
        })
    }
}

/// How the answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// A form that the browser posts.
    FormPost,
    /// The query of the redirect.
    Query,
}

impl ResponseMode {
    /// The mode that was asked for; the query where that is none of ours, so that even this refusal can be answered.
    pub fn of(params: &Params) -> Self {
        match params.get("response_mode") {
            Some("form_post") => Self::FormPost,
            _ => Self::Query,
        }
    }
}

/// What the client wants the user to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Consent, even if given before.
    Consent,
    /// A fresh login.
    Login,
    /// Nothing at all: answer or fail.
    None,
    /// Which account; here the same as a login.
    SelectAccount,
}

/// A well-formed authorization request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizeRequest {
    /// The client.
    pub client_id: String,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// How the answer travels.
    pub response_mode: ResponseMode,
    /// What is asked for.
    pub scope: Scope,
    /// Comes back in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Comes back in the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// PKCE, S256.
    pub code_challenge: CodeChallenge,
    /// The API that the access token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What to ask the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt: Vec<Prompt>,
    /// The oldest acceptable login, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// Who is expected, for the login form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_hint: Option<String>,
    /// An ID token of whom is expected. It is a token, so it is never stored.
    #[serde(skip)]
    pub id_token_hint: Option<String>,
}

impl AuthorizeRequest {
    /// Reads everything that [`Target`] does not. Unknown parameters are ignored, `claims`, `acr_values`, `display` and
    /// `ui_locales` among them.
    pub fn parse(target: Target, params: &Params) -> Result<Self, Refusal> {
        if params.get("request").is_some() {
            return Err(Refusal::new(
                Code::RequestNotSupported,
                "request_object_given",
                "Request objects are not supported. Use the pushed authorization request endpoint.",
            ));
        }
        match params.require("response_type")? {
            "code" => {}
            _ => {
                return Err(Refusal::new(
                    Code::UnsupportedResponseType,
                    "response_type_unknown",
                    "The only response_type is code.",
                ));
            }
        }
        match params.get("response_mode") {
            None | Some("query" | "form_post") => {}
            Some(_) => {
                return Err(Refusal::invalid_request(
                    "response_mode_unknown",
                    "response_mode has to be query or form_post.",
                ));
            }
        }
        let code_challenge = match (
            params.get("code_challenge"),
            params.get("code_challenge_method"),
        ) {
            (Some(challenge), Some("S256")) => CodeChallenge::parse(challenge)?,
            (None, _) => {
                return Err(Refusal::invalid_request(
                    "code_challenge_missing",
                    "Every client has to use PKCE: code_challenge is missing.",
                ));
            }
            (Some(_), _) => {
                return Err(Refusal::invalid_request(
                    "code_challenge_method_unknown",
                    "code_challenge_method has to be S256.",
                ));
            }
        };
        let text = |name, longest| {
            params
                .bounded(name, longest)
                .map(|text| text.map(str::to_owned))
        };
        Ok(Self {
            client_id: target.client_id,
            redirect_uri: target.redirect_uri,
            response_mode: ResponseMode::of(params),
            scope: params
                .get("scope")
                .map(Scope::parse)
                .transpose()?
                .unwrap_or_default(),
            state: text("state", 4096)?,
            nonce: text("nonce", 1024)?,
            code_challenge,
            audience: audience(params)?,
            prompt: prompts(params)?,
            max_age: max_age(params)?,
            login_hint: params.get("login_hint").map(hint),
            id_token_hint: text("id_token_hint", 16 * 1024)?,
        })
    }

    /// Whether the user is to be asked this.
    pub fn asks_for(&self, prompt: Prompt) -> bool {
        self.prompt.contains(&prompt)
    }
}

/// A hint never breaks a request: cut to 320 characters, without control characters (threats AU-35).
fn hint(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(320).collect()
}

fn audience(params: &Params) -> Result<Option<String>, Refusal> {
    Ok(params
        .bounded("audience", 512)?
        .or(params.bounded("resource", 512)?)
        .map(str::to_owned))
}

fn prompts(params: &Params) -> Result<Vec<Prompt>, Refusal> {
    let mut prompts = Vec::new();
    for word in params
        .get("prompt")
        .unwrap_or_default()
        .split(' ')
        .filter(|word| !word.is_empty())
    {
        let prompt = match word {
            "consent" => Prompt::Consent,
            "login" => Prompt::Login,
            "none" => Prompt::None,
            "select_account" => Prompt::SelectAccount,
            _ => {
                return Err(Refusal::invalid_request(
                    "prompt_unknown",
                    "prompt has to be none, login, consent or select_account.",
                ));
            }
        };
        if !prompts.contains(&prompt) {
            prompts.push(prompt);
        }
    }
    // OpenID Connect Core §3.1.2.1.
    if prompts.contains(&Prompt::None) && prompts.len() > 1 {
        return Err(Refusal::invalid_request(
            "prompt_none_with_others",
            "prompt none cannot be combined with another.",
        ));
    }
    Ok(prompts)
}

fn max_age(params: &Params) -> Result<Option<u64>, Refusal> {
    params
        .get("max_age")
        .map(|text| match text.parse::<u64>() {
            Ok(seconds) if !text.starts_with('+') => Ok(seconds),
            _ => Err(Refusal::invalid_request(
                "max_age_malformed",
                "max_age has to be a whole number of seconds.",
            )),
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn read(change: &[(&str, &str)]) -> Result<AuthorizeRequest, Refusal> {
        let mut fields = vec![
            ("client_id", "app"),
            ("redirect_uri", "https://app.example/cb"),
            ("response_type", "code"),
            ("scope", "openid email"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in change {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let params = Params::from_query(&query)?;
        AuthorizeRequest::parse(Target::parse(&params)?, &params)
    }

    #[test]
    fn a_request_survives_being_stored() {
        let request = read(&[
            ("state", "s"),
            ("nonce", &"n".repeat(384)),
            ("prompt", "login consent login"),
            ("max_age", "0"),
            ("audience", "https://api.example/"),
            ("login_hint", "<b>\u{7}bob"),
            ("claims", "[[[["),
            ("auth0Client", "x"),
        ])
        .unwrap();
        assert_eq!(request.prompt, [Prompt::Login, Prompt::Consent]);
        assert_eq!(request.login_hint.as_deref(), Some("<b>bob"));
        assert_eq!(request.max_age, Some(0));
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<AuthorizeRequest>(&text).unwrap(),
            request
        );
    }

    #[test]
    fn au_13_14_16_19_20_refused_with_their_codes() {
        for (change, code, reason) in [
            (
                ("code_challenge", ""),
                Code::InvalidRequest,
                "code_challenge_missing",
            ),
            (
                ("code_challenge_method", "plain"),
                Code::InvalidRequest,
                "code_challenge_method_unknown",
            ),
            (
                ("code_challenge_method", ""),
                Code::InvalidRequest,
                "code_challenge_method_unknown",
            ),
            (
                ("code_challenge", "short"),
                Code::InvalidRequest,
                "code_challenge_malformed",
            ),
            (
                ("response_type", ""),
                Code::InvalidRequest,
                "parameter_missing",
            ),
            (
                ("response_type", "token"),
                Code::UnsupportedResponseType,
                "response_type_unknown",
            ),
            (
                ("response_type", "id_token"),
                Code::UnsupportedResponseType,
                "response_type_unknown",
            ),
            (
                ("response_type", "code token"),
                Code::UnsupportedResponseType,
                "response_type_unknown",
            ),
            (
                ("response_mode", "fragment"),
                Code::InvalidRequest,
                "response_mode_unknown",
            ),
            (
                ("response_mode", "web_message"),
                Code::InvalidRequest,
                "response_mode_unknown",
            ),
            (
                ("request", "x.y.z"),
                Code::RequestNotSupported,
                "request_object_given",
            ),
            (
                ("prompt", "none login"),
                Code::InvalidRequest,
                "prompt_none_with_others",
            ),
            (("prompt", "later"), Code::InvalidRequest, "prompt_unknown"),
            (("max_age", "-1"), Code::InvalidRequest, "max_age_malformed"),
            (("scope", "a\"b"), Code::InvalidScope, "scope_malformed"),
            (
                ("state", "a\nb"),
                Code::InvalidRequest,
                "parameter_malformed",
            ),
        ] {
            let refused = read(&[change]).unwrap_err();
            assert_eq!((refused.code, refused.reason), (code, reason), "{change:?}");
        }
    }

    #[test]
    fn au_02_a_target_names_both() {
        for change in [
            ("client_id", ""),
            ("redirect_uri", ""),
            ("redirect_uri", &*"x".repeat(3000)),
        ] {
            assert_eq!(read(&[change]).unwrap_err().code, Code::InvalidRequest);
        }
    }
}
