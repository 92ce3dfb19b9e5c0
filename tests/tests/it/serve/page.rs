//! The page in a real browser: it loads, goes on by itself, takes a step by its buttons, and says what it
//! lacks.

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use serde_json::json;

use super::browser::Browser;
use super::served::{OPERATE, Served};
use super::turned::relay_rests;

async fn world() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 30)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world
}

#[tokio::test]
async fn the_page_asks_for_a_token_and_says_when_it_is_wrong() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    let served = Served::of(&world).await;
    browser.go(&served.address).await;
    browser.shows("Sign in").await;
    browser.run("document.querySelector('[name=token]').value = 'not-the-token-at-all'").await;
    browser.press("Sign in").await;
    browser.shows("This token is not the right one").await;
    browser.run(&format!("document.querySelector('[name=token]').value = '{OPERATE}'")).await;
    browser.press("Sign in").await;
    browser.shows("Next: HybridRead").await;
    let kept = browser.run("return [location.hash, document.cookie, Object.keys(localStorage).length]").await;
    assert_eq!(kept, json!(["", "", 0]), "the token is in this tab only");
    browser.close().await;
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn a_step_is_taken_there_and_back_with_the_mouse() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    let served = Served::of(&world).await;
    browser.go(&format!("{}/#token={OPERATE}", served.address)).await;
    browser.shows("nothing has been validated yet").await;
    browser.press("Validate").await;
    browser.press("Validate").await;
    browser.shows("✓ same").await;
    browser.press("Close").await;
    browser.press("Advance to HybridRead").await;
    browser.every_gate_passes().await;
    browser.run("document.querySelector('[name=reason]').value = 'by the mouse <b>'").await;
    browser.press("Advance").await;
    browser.shows("Next: DynamoOnly").await;
    browser.press("Close").await;
    browser.shows("DualWrite → HybridRead").await;
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead);
    browser.press("Roll back to DualWrite").await;
    browser.run("document.querySelector('[name=reason]').value = 'only a test'").await;
    browser.press("Roll back").await;
    browser.shows("Next: HybridRead").await;
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);
    let marked = browser.run("return document.querySelectorAll('main b b').length").await;
    assert_eq!(marked, json!(0), "what a person wrote is text");
    browser.close().await;
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn the_page_goes_on_by_itself_and_comes_back_after_the_daemon_was_away() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    let mut served = Served::of(&world).await;
    browser.go(&format!("{}/#token={OPERATE}", served.address)).await;
    browser.shows("Next: HybridRead").await;
    world.sql(&payments(31, 60)).await;
    browser.shows("30 in all").await;
    served.child.kill().await.expect("it is killed");
    browser.shows("The connection to Lockstep is lost").await;
    let again = Served::at(&world, served.address.trim_start_matches("http://"), &[]).await;
    browser.shows("Live").await;
    browser.shows("Next: HybridRead").await;
    let lost = browser.run("return document.body.innerText.includes('is lost')").await;
    assert_eq!(lost, json!(false));
    browser.close().await;
    assert_eq!(again.end().await, Some(0));
}

#[tokio::test]
async fn on_a_phone_nothing_is_cut_off_and_a_step_can_be_taken() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    let served = Served::of(&world).await;
    let ramp = json!({ "ramp": { "name": "canary_percent", "steps": [1, 5, 25, 100], "hold_s": 3600 }, "reason": "go live" });
    served
        .until("it leads", |status| status["daemon"]["role"] == "leader" && status["installed"] == true)
        .await;
    served.post("/v1/settings", &ramp).await;
    browser.be_a_phone().await;
    browser.go(&format!("{}/#token={OPERATE}", served.address)).await;
    browser.shows("Next: HybridRead").await;
    browser.shows("Ramp of canary percent").await;
    let wide = browser
        .run(
            "const most = document.documentElement.clientWidth;
             return [most, document.documentElement.scrollWidth, ...[...document.querySelectorAll('main *')]
                 .filter((one) => one.getBoundingClientRect().right > most + 1 && getComputedStyle(one).position !== 'absolute')
                 .slice(0, 3).map((one) => one.tagName + '.' + one.className)]",
        )
        .await;
    assert_eq!(wide, json!([390, 390]), "nothing is wider than the screen");
    browser.press("Validate").await;
    browser.shows("compare both stores").await;
    let dialog = browser
        .run("const box = document.querySelector('dialog[open]').getBoundingClientRect(); return box.left >= 0 && box.right <= 390")
        .await;
    assert_eq!(dialog, json!(true));
    browser.press("Validate").await;
    browser.shows("✓ same").await;
    browser.press("Close").await;
    // The relay's rate is turned with the mouse too, with a reason, and is shown at once.
    browser.press("Turn a setting").await;
    browser.shows("It takes a percentage").await;
    browser
        .run(
            "const set = (name, value) => { const field = document.querySelector(`dialog [name=${name}]`); field.value = value;
                 field.dispatchEvent(new Event('change')); };
             set('name', 'relay_write_units_per_s_max'); set('value', '500'); set('reason', 'readers first');",
        )
        .await;
    browser.shows("most write units a second of each relay").await;
    browser.press("Turn").await;
    browser.shows("Done.").await;
    browser.press("Close").await;
    browser.shows("readers first").await;
    let set = served.get("/v1/settings").await.json();
    assert_eq!(set["settings"]["relay_write_units_per_s_max"]["value"], json!(500), "{set}");
    browser.close().await;
    assert_eq!(served.end().await, Some(0));
}

/// 1. A comparison is at work, and waits. 2. Readers are given wrong answers: the way back has a button. 3.
/// What was paused is lifted by one who sees whose it is.
#[tokio::test]
async fn the_way_back_is_open_beside_a_comparison_and_resume_names_what_it_lifts() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    let served = Served::of(&world).await;
    served
        .until("it leads", |status| status["daemon"]["role"] == "leader" && status["installed"] == true)
        .await;
    let pause = json!({ "parts": ["relay"], "actor": "bob", "reason": "maintenance" });
    served.post("/v1/pause", &pause).await;
    served.until("the relay rests", relay_rests).await;
    world.sql("UPDATE payments SET transaction_reference = 'waits' WHERE payment_id = 3").await;
    served.post("/v1/validate", &json!({})).await;
    browser.go(&format!("{}/#token={OPERATE}", served.address)).await;
    browser.shows("One operation at a time").await;
    browser.press("Roll back to PostgresOnly").await;
    browser.shows("is broken off for it").await;
    browser.every_gate_passes().await;
    browser.run("document.querySelector('[name=reason]').value = 'reads are wrong'").await;
    browser.press("Roll back").await;
    served.until("it is back", |status| status["phase"] == "PostgresOnly").await;
    browser.press("Close").await;
    browser.press("Resume").await;
    browser.shows("relay, paused by bob via serve (maintenance)").await;
    browser.run("document.querySelector('[name=reason]').value = 'it is over'").await;
    browser.press("Resume").await;
    served.until("nothing is paused", |status| status["daemon"]["paused"] == json!([])).await;
    browser.close().await;
    assert_eq!(served.end().await, Some(0));
}
