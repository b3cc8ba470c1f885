//! Where a custom connection's addresses may lead: every spelling of an inner address in every URL field, names that
//! lead inside or change their mind, proxies of the environment. What is refused gets no packet.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use provider::{FailureKind, OutboundPolicy, ProviderClient};

use crate::calls::{
    DEADLINE, Field, Found, Names, PATIENCE, assert_refused, client, honest, policy, refresh,
};
use crate::hostile::Hostile;

/// SS-01 to SS-07, as they stand in a URL.
const INSIDE: [&str; 34] = [
    "169.254.169.254",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "127.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "127.1",
    "0",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001:0:1::1]",
    "[2600::5efe:7f00:1]",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "[2001:db8::1]",
    "[fe80::1]",
    "[fc00::1]",
];

/// SS-16: other ways to write 127.0.0.1.
const SPELLINGS: [&str; 10] = [
    "%31%32%37.0.0.1",
    "0x7f.1",
    "0X7F000001",
    "0177.0.0.1",
    "2130706433",
    "017700000001",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "１２７.0.0.1",
    "127%2e0.0.1",
];

/// SS-02, SS-10, SS-16: names that lead to this host in these tests, as every name would that an attacker owns.
const NAMES: [&str; 8] = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ⓛocalhost",
    "metadata.google.internal",
    "127.0.0.1.nip.io",
    "cname.of.cname.provider.test",
    "pro%76ider.test",
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(texts: &[&str]) -> Found {
    Found::Addresses(texts.iter().map(|text| ip(text)).collect())
}

fn resolving(policy: OutboundPolicy, names: &Arc<Names>) -> ProviderClient {
    client(OutboundPolicy {
        resolver: Arc::<Names>::clone(names),
        ..policy
    })
}

/// Somebody on this host who would answer everything, and must never be asked.
async fn victim() -> (Hostile, u16) {
    let victim = honest().await;
    let port = victim.origin.rsplit(':').next().unwrap().parse().unwrap();
    (victim, port)
}

/// Puts each URL into each field of a connection whose other fields are honest. Nothing may reach `victim`.
async fn refused_in_every_field(urls: &[String], names: &Arc<Names>, victim: &Hostile) {
    let provider = honest().await;
    let client = resolving(policy(&[&provider.origin], PATIENCE), names);
    for url in urls {
        for field in Field::ALL {
            let what = format!("{field:?}: {url}");
            let settings = field.settings_with(&provider.origin, url);
            let failure = field.fails(&client, &settings, url).await;
            if failure.kind == FailureKind::ClientMisconfigured {
                // Not a URL at all, so it was not saved either.
                assert!(
                    settings
                        .check(&provider::Catalogue::built_in().unwrap())
                        .is_err(),
                    "{what}: {failure}"
                );
                continue;
            }
            assert_refused(&failure, &what);
        }
    }
    assert_eq!(victim.connections(), 0);
}

#[tokio::test]
async fn the_victim_of_these_tests_would_have_been_reached() {
    let (victim, _) = victim().await;
    let client = client(policy(&[&victim.origin], PATIENCE));
    let settings = Field::TokenEndpoint.settings(&victim.origin);
    refresh(&client, &settings).await.unwrap();
    assert_eq!(victim.connections(), 1);
}

#[tokio::test]
async fn ss_01_to_07_inner_addresses_are_refused_in_every_field() {
    let (victim, port) = victim().await;
    let names = Names::new(&[]);
    let mut urls = Vec::new();
    for host in INSIDE {
        urls.push(format!("https://{host}/x"));
        urls.push(format!("https://{host}:{port}/x"));
        urls.push(format!("http://{host}:{port}/x"));
    }
    refused_in_every_field(&urls, &names, &victim).await;
    assert!(names.looked_up().is_empty(), "{:?}", names.looked_up());
}

#[tokio::test]
async fn ss_16_an_inner_address_is_refused_however_it_is_written() {
    let (victim, port) = victim().await;
    let names = Names::new(&[]);
    let mut urls = Vec::new();
    for host in SPELLINGS {
        urls.push(format!("https://{host}/x"));
        urls.push(format!("https://{host}:{port}/x"));
        urls.push(format!("hTTps://provider.test@{host}/x"));
        urls.push(format!("https:\\\\{host}\\x"));
    }
    refused_in_every_field(&urls, &names, &victim).await;
    assert!(names.looked_up().is_empty(), "{:?}", names.looked_up());
}

/// A browser looks names up itself, so the authorization endpoint is not among these.
#[tokio::test]
async fn ss_02_08_10_names_that_lead_inside_are_refused_in_every_field() {
    let (victim, _) = victim().await;
    let loopback = || vec![addresses(&["127.0.0.1"])];
    let names = Names::new(&[
        ("localhost", loopback()),
        ("localhost.", loopback()),
        ("metadata.google.internal", loopback()),
        ("127.0.0.1.nip.io", loopback()),
        ("cname.of.cname.provider.test", loopback()),
        ("provider.test", loopback()),
    ]);
    let provider = honest().await;
    let client = resolving(policy(&[&provider.origin], PATIENCE), &names);
    let mut calls = 0;
    for host in NAMES {
        for field in Field::CALLED {
            let url = format!("https://{host}/x");
            let settings = field.settings_with(&provider.origin, &url);
            settings
                .check(&provider::Catalogue::built_in().unwrap())
                .unwrap();
            let failure = field.fails(&client, &settings, &url).await;
            assert_refused(&failure, &format!("{field:?}: {url}"));
            calls += 1;
            assert_eq!(names.looked_up().len(), calls, "{field:?}: {url}");
        }
    }
    assert_eq!(victim.connections(), 0);
}

#[tokio::test]
async fn ss_08_22_one_inner_address_among_public_ones_is_enough() {
    const PUBLIC: [&str; 2] = ["8.8.8.8", "2606:4700::1111"];
    for inside in INSIDE {
        let Ok(inside) = inside.trim_matches(['[', ']']).parse::<IpAddr>() else {
            continue;
        };
        let inside = inside.to_string();
        for found in [
            vec![&*inside],
            vec![&*inside, PUBLIC[0]],
            vec![PUBLIC[0], &*inside],
            vec![PUBLIC[1], PUBLIC[0], &*inside, PUBLIC[1]],
        ] {
            let names = Names::new(&[("provider.test", vec![addresses(&found)])]);
            let client = resolving(policy(&[], PATIENCE), &names);
            let settings = Field::TokenEndpoint.settings("https://provider.test");
            let failure = Field::TokenEndpoint
                .fails(&client, &settings, &inside)
                .await;
            assert_refused(&failure, &format!("{found:?}"));
        }
    }
}

/// The name is looked up once, and the connection goes to what was checked: to a group address here, to which no
/// connection can be made, so that nothing leaves this host. What the name leads to afterwards is checked afresh.
#[tokio::test]
async fn ss_08_a_name_that_changes_its_mind_gains_nothing() {
    let (victim, port) = victim().await;
    let names = Names::new(&[(
        "provider.test",
        vec![addresses(&["224.0.0.1"]), addresses(&["127.0.0.1"])],
    )]);
    let mut policy = policy(&[], PATIENCE);
    policy.allowed_networks = vec!["224.0.0.0/4".parse().unwrap()];
    let client = resolving(policy, &names);
    let settings = Field::TokenEndpoint.settings("https://provider.test");
    let failure = Field::TokenEndpoint
        .fails(&client, &settings, "first")
        .await;
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(names.looked_up(), ["provider.test"]);
    for attempt in 2..5 {
        let failure = Field::TokenEndpoint.fails(&client, &settings, "then").await;
        assert_refused(&failure, "then");
        assert_eq!(names.looked_up().len(), attempt);
    }
    // A port of its own does not help.
    let settings = Field::TokenEndpoint.settings(&format!("https://provider.test:{port}"));
    let failure = Field::TokenEndpoint.fails(&client, &settings, "port").await;
    assert_refused(&failure, "port");
    assert_eq!(victim.connections(), 0);
}

#[tokio::test]
async fn ss_13_other_schemes_are_neither_saved_nor_called() {
    let (victim, port) = victim().await;
    let names = Names::new(&[("provider.test", vec![addresses(&["127.0.0.1"])])]);
    let mut urls: Vec<String> = [
        "dict", "ftp", "gopher", "jar", "ldap", "tftp", "unix", "ws", "wss",
    ]
    .iter()
    .map(|scheme| format!("{scheme}://127.0.0.1:{port}/x"))
    .collect();
    for url in [
        "file:///etc/passwd",
        "file://127.0.0.1/x",
        "unix:/run/docker.sock",
        "data:application/json,{}",
        "//provider.test/x",
    ] {
        urls.push(url.to_owned());
    }
    for url in &urls {
        for field in Field::ALL {
            let settings = field.settings_with("https://provider.test", url);
            assert!(
                settings
                    .check(&provider::Catalogue::built_in().unwrap())
                    .is_err(),
                "{field:?}: {url}"
            );
        }
    }
    refused_in_every_field(&urls, &names, &victim).await;
    assert!(names.looked_up().is_empty());
}

#[tokio::test]
async fn f_47_plain_http_is_refused_wherever_it_leads() {
    let (victim, port) = victim().await;
    let names = Names::new(&[("provider.test", vec![addresses(&["8.8.8.8"])])]);
    let urls: Vec<String> = [
        "http://provider.test/x".to_owned(),
        "http://provider.test:443/x".to_owned(),
        "http://8.8.8.8/x".to_owned(),
        format!("http://localhost:{port}/x"),
    ]
    .into();
    refused_in_every_field(&urls, &names, &victim).await;
    assert!(names.looked_up().is_empty());
}

#[tokio::test]
async fn ss_14_other_ports_are_refused_before_the_name_is_looked_up() {
    let (victim, own) = victim().await;
    let names = Names::new(&[("provider.test", vec![addresses(&["8.8.8.8"])])]);
    let mut urls: Vec<String> = [0, 22, 25, 80, 5432, 6379, 8443, own]
        .iter()
        .map(|port| format!("https://provider.test:{port}/x"))
        .collect();
    urls.push("https://provider.test:65536/x".to_owned());
    refused_in_every_field(&urls, &names, &victim).await;
    assert!(names.looked_up().is_empty());
}

/// SS-22: a zone is for addresses of this link only, and no URL has one.
#[tokio::test]
async fn ss_22_an_address_with_a_zone_is_no_address() {
    let (victim, _) = victim().await;
    let urls = ["https://[fe80::1%25eth0]/x", "https://[::1%25lo]/x"].map(str::to_owned);
    refused_in_every_field(&urls, &Names::new(&[]), &victim).await;
}

#[tokio::test]
async fn ss_25_f_48_a_name_without_an_answer_is_a_provider_that_is_away() {
    for (what, found, deadline) in [
        (
            "no such name",
            Found::Nothing(ErrorKind::NotFound),
            PATIENCE,
        ),
        (
            "the name server failed",
            Found::Nothing(ErrorKind::Other),
            PATIENCE,
        ),
        ("a name without addresses", addresses(&[]), PATIENCE),
        ("a name server that hangs", Found::Silence, DEADLINE),
    ] {
        for field in Field::CALLED {
            let names = Names::new(&[("provider.test", vec![found.clone()])]);
            let provider = honest().await;
            let client = resolving(policy(&[&provider.origin], deadline), &names);
            let settings = field.settings_with(&provider.origin, "https://provider.test/x");
            let failure = field.fails(&client, &settings, what).await;
            // Nothing was sent, so nothing can have been lost.
            assert_eq!(failure.kind, FailureKind::Unavailable, "{field:?}: {what}");
            assert_eq!(names.looked_up(), ["provider.test"], "{field:?}: {what}");
        }
    }
}

/// SS-17: the rest of [`ss_17_proxies_of_the_environment_are_not_used`], in a process of its own.
#[tokio::test]
#[ignore = "run by ss_17_proxies_of_the_environment_are_not_used, with proxies in its environment"]
async fn with_proxies_in_the_environment() {
    let provider = honest().await;
    let settings = Field::TokenEndpoint.settings(&provider.origin);
    let guarded = client(policy(&[&provider.origin], PATIENCE));
    refresh(&guarded, &settings).await.unwrap();
    assert_eq!(provider.asked(), ["POST /token"]);
    // The checked way out too: a proxy would look the name up where nobody checks.
    let names = Names::new(&[("provider.test", vec![addresses(&["127.0.0.1"])])]);
    let guarded = resolving(policy(&[], PATIENCE), &names);
    let settings = Field::TokenEndpoint.settings("https://provider.test");
    let failure = Field::TokenEndpoint
        .fails(&guarded, &settings, "by name")
        .await;
    assert_refused(&failure, "by name");
    // The variables are what makes others use the proxy.
    let unguarded = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let proxied = unguarded.get("http://provider.test/unguarded").send().await;
    assert_eq!(proxied.unwrap().status(), 404);
}

#[tokio::test]
async fn ss_17_proxies_of_the_environment_are_not_used() {
    let proxy = Hostile::http().await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "addresses::with_proxies_in_the_environment"])
        .args(["--ignored", "--nocapture"])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdin(Stdio::null());
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        child.env(name, &proxy.origin);
        child.env(name.to_uppercase(), &proxy.origin);
    }
    let output = child.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{complained}");
    assert!(told.contains("1 passed"), "{told}");
    assert_eq!(proxy.asked(), ["GET http://provider.test/unguarded"]);
}
