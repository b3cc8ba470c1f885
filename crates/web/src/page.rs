//! The pages, and what every page is sent with. The HTML is in `templates/`, checked when this crate is compiled.
//!
//! One heading, one main action, and that is the first button of the document. Names that come from outside pass
//! through [`shown`] before they are put into a page.

use askama::Template;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_FRAME_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use vault::{Error, Fault, TenantSettings, Vault};

use crate::error::Failure;

/// Pages load nothing from elsewhere, run no script, and stand in no frame. `form-action` is left out on purpose:
/// browsers apply it to the redirects after a form, and those lead to clients and providers.
const POLICY: &str = "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The same, with the one script that sends a form on.
const POLICY_WITH_SCRIPT: &str = "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Whose page it is.
pub(crate) struct House {
    name: String,
    domain: String,
    /// Where help is: an address of the web, or one to write to.
    help: Option<String>,
}

impl House {
    /// As an administrator has set it.
    pub(crate) async fn of(vault: &Vault) -> Result<Self, Failure> {
        let settings = vault.tenant_settings().await?;
        Ok(Self::new(&settings, vault.settings().issuer.domain()))
    }

    fn new(settings: &TenantSettings, domain: &str) -> Self {
        let mailbox = |address: &String| format!("mailto:{address}");
        Self {
            name: shown(settings.friendly_name.as_deref().unwrap_or("Tokenvault")),
            domain: domain.to_owned(),
            help: settings
                .support_url
                .clone()
                .or_else(|| settings.support_email.as_ref().map(mailbox)),
        }
    }
}

/// Asks for username and password.
#[derive(Template)]
#[template(path = "login.html")]
pub(crate) struct LoginPage<'a> {
    /// What logging in is for, a sentence.
    pub(crate) purpose: String,
    pub(crate) notice: Option<&'a str>,
    pub(crate) error: Option<&'a str>,
    pub(crate) action: &'a str,
    pub(crate) csrf: String,
    /// The name of the hidden field that says what goes on afterwards: `state` or `ticket`.
    pub(crate) context_name: &'a str,
    pub(crate) context: &'a str,
    pub(crate) username: String,
    pub(crate) sign_up: Option<String>,
    pub(crate) house: House,
}

/// Makes a user.
#[derive(Template)]
#[template(path = "sign_up.html")]
pub(crate) struct SignUpPage<'a> {
    pub(crate) purpose: String,
    pub(crate) error: Option<&'a str>,
    pub(crate) csrf: String,
    pub(crate) state: &'a str,
    pub(crate) username: String,
    pub(crate) email: String,
    pub(crate) login: String,
    pub(crate) house: House,
}

/// Asks whether a client may act for the user.
#[derive(Template)]
#[template(path = "consent.html")]
pub(crate) struct ConsentPage<'a> {
    pub(crate) client_name: String,
    pub(crate) audience_name: String,
    pub(crate) scopes: Vec<ScopeLine>,
    pub(crate) redirect_host: String,
    pub(crate) csrf: String,
    pub(crate) state: &'a str,
    pub(crate) house: House,
}

/// A scope, with its words where the API has some.
pub(crate) struct ScopeLine {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
}

/// Asks whether an account is to be connected.
#[derive(Template)]
#[template(path = "connect.html")]
pub(crate) struct ConnectPage<'a> {
    pub(crate) client_name: String,
    pub(crate) connection_name: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) user_name: String,
    pub(crate) redirect_host: String,
    pub(crate) csrf: String,
    pub(crate) ticket: &'a str,
    pub(crate) house: House,
}

/// Asks whether to log out.
#[derive(Template)]
#[template(path = "logout.html")]
pub(crate) struct LogoutPage {
    pub(crate) csrf: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) house: House,
}

/// Says something.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct MessagePage<'a> {
    pub(crate) heading: &'a str,
    pub(crate) text: &'a str,
    pub(crate) request_id: Option<&'a str>,
}

/// Sends the answer of an authorization request to the client as a form.
#[derive(Template)]
#[template(path = "form_post.html")]
pub(crate) struct FormPostPage<'a> {
    pub(crate) host: String,
    pub(crate) action: &'a str,
    pub(crate) fields: &'a [(String, String)],
}

/// What somebody sees who comes here by hand.
#[derive(Template)]
#[template(path = "home.html")]
pub(crate) struct HomePage<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) domain: &'a str,
}

/// A page without script.
pub(crate) fn html(status: StatusCode, page: &impl Template) -> Result<Response, Failure> {
    respond(status, page, POLICY)
}

/// The page that sends a form on by script.
pub(crate) fn html_with_script(page: &FormPostPage<'_>) -> Result<Response, Failure> {
    respond(StatusCode::OK, page, POLICY_WITH_SCRIPT)
}

/// The page of a failure.
pub(crate) fn failure(status: StatusCode, description: &str, request_id: &str) -> Response {
    let heading = match status.as_u16() {
        403 => "This is not allowed",
        404 => "There is nothing here",
        429 => "Too many attempts",
        500 => "Something went wrong",
        502 | 503 => "Not available right now",
        _ => "This does not work",
    };
    let page = MessagePage {
        heading,
        text: description,
        request_id: Some(request_id),
    };
    // A page that cannot be rendered is still a page.
    respond(status, &page, POLICY).unwrap_or_else(|_| (status, heading).into_response())
}

fn respond(
    status: StatusCode,
    page: &impl Template,
    policy: &'static str,
) -> Result<Response, Failure> {
    let text = page
        .render()
        .map_err(|error| Error::Fault(Fault::Internal(format!("rendering a page: {error}"))))?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    let mut response = (status, headers, text).into_response();
    response.headers_mut().insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    Ok(response)
}

/// A name from outside as it may stand on a page: one line, no character that hides or turns others, at most eighty
/// (threats WB-05). Escaping is the template's business.
pub(crate) fn shown(text: &str) -> String {
    let visible = |c: &char| {
        !c.is_control()
            && !matches!(
                c,
                '\u{ad}'
                    | '\u{61c}'
                    | '\u{115f}'..='\u{1160}'
                    | '\u{180e}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{3164}'
                    | '\u{fe00}'..='\u{fe0f}'
                    | '\u{feff}'
                    | '\u{ffa0}'
                    | '\u{fff9}'..='\u{fffb}'
                    | '\u{e0000}'..='\u{e007f}'
            )
    };
    let mut text: Vec<char> = text.chars().filter(visible).collect();
    if text.len() > 80 {
        text.truncate(79);
        text.push('…');
    }
    text.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> House {
        let settings = TenantSettings {
            friendly_name: Some("<b>\"&'".to_owned()),
            support_email: Some("<b>\"&'@example.com".to_owned()),
            ..TenantSettings::default()
        };
        House::new(&settings, "vault.example")
    }

    fn pages() -> Vec<(&'static str, String)> {
        let evil = "<b>\"&'".to_owned();
        let login = LoginPage {
            purpose: format!("to continue to {evil}"),
            notice: Some(&evil),
            error: Some(&evil),
            action: "/u/login",
            csrf: evil.clone(),
            context_name: "state",
            context: &evil,
            username: evil.clone(),
            sign_up: Some("/u/signup?state=s".to_owned()),
            house: house(),
        };
        let sign_up = SignUpPage {
            purpose: format!("to continue to {evil}"),
            error: Some(&evil),
            csrf: evil.clone(),
            state: &evil,
            username: evil.clone(),
            email: evil.clone(),
            login: "/u/login?state=s".to_owned(),
            house: house(),
        };
        let consent = ConsentPage {
            client_name: evil.clone(),
            audience_name: evil.clone(),
            scopes: vec![ScopeLine {
                name: evil.clone(),
                description: Some(evil.clone()),
            }],
            redirect_host: evil.clone(),
            csrf: evil.clone(),
            state: &evil,
            house: house(),
        };
        let connect = ConnectPage {
            client_name: evil.clone(),
            connection_name: evil.clone(),
            scopes: vec![evil.clone()],
            user_name: evil.clone(),
            redirect_host: evil.clone(),
            csrf: evil.clone(),
            ticket: &evil,
            house: house(),
        };
        let logout = LogoutPage {
            csrf: evil.clone(),
            fields: vec![(evil.clone(), evil.clone())],
            house: house(),
        };
        let message = MessagePage {
            heading: &evil,
            text: &evil,
            request_id: Some(&evil),
        };
        let fields = [(evil.clone(), evil.clone())];
        let form_post = FormPostPage {
            host: evil.clone(),
            action: &evil,
            fields: &fields,
        };
        let home = HomePage {
            issuer: &evil,
            domain: &evil,
        };
        vec![
            ("login", login.render().unwrap()),
            ("sign_up", sign_up.render().unwrap()),
            ("consent", consent.render().unwrap()),
            ("connect", connect.render().unwrap()),
            ("logout", logout.render().unwrap()),
            ("message", message.render().unwrap()),
            ("form_post", form_post.render().unwrap()),
            ("home", home.render().unwrap()),
        ]
    }

    #[test]
    fn in_23_every_page_escapes_everything_it_is_given() {
        for (name, text) in pages() {
            assert!(!text.contains("<b>"), "{name}: {text}");
            assert!(text.contains("&#60;b&#62;"), "{name}: {text}");
        }
    }

    #[test]
    fn every_page_has_one_heading_labels_and_nothing_from_elsewhere() {
        for (name, text) in pages() {
            assert_eq!(text.matches("<h1>").count(), 1, "{name}");
            assert_eq!(text.matches("<title>").count(), 1, "{name}");
            assert!(!text.contains("https://"), "{name}");
            assert!(!text.contains("style="), "{name}");
            assert!(!text.contains("<script>"), "{name}");
            assert_eq!(text.contains("<script"), name == "form_post", "{name}");
            let inputs = text.matches("<input").count() - text.matches("type=\"hidden\"").count();
            assert_eq!(inputs, text.matches("<label").count(), "{name}");
        }
    }

    #[test]
    fn the_first_button_of_a_page_is_its_main_action() {
        for (name, button) in [
            ("login", "value=\"default\">Log in<"),
            ("sign_up", "value=\"default\">Sign up<"),
            ("consent", "value=\"accept\">Allow<"),
            ("connect", "value=\"continue\">Continue to "),
            ("logout", "value=\"logout\">Log out<"),
            ("form_post", "type=\"submit\">Continue<"),
        ] {
            let pages = pages();
            let (_, text) = pages.iter().find(|(page, _)| *page == name).unwrap();
            let (_, first) = text.split_once("<button").unwrap();
            let (first, _) = first.split_once("/button>").unwrap();
            assert!(first.contains("class=\"main\""), "{name}: {first}");
            assert!(first.contains(button), "{name}: {first}");
        }
    }

    #[test]
    fn wb_05_names_from_outside_cannot_hide_or_turn() {
        for (text, expected) in [
            ("Google", "Google"),
            ("Goo\u{200b}gle\u{202e}!", "Google!"),
            ("a\r\nb\u{0}c\u{7f}", "abc"),
            ("Übung 東京", "Übung 東京"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 80);
    }
}
