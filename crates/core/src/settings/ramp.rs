//! Ramps, which lead a percentage up step by step.

use serde_json::Value;

/// A plan by which a percentage rises, one step after the other, each after a gate.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The percentages, rising.
    pub steps: Vec<f64>,
    /// Time in seconds for which each share holds before the next is asked for.
    pub hold_s: u64,
    /// Index of the share that is in force.
    pub at: usize,
    /// Time since which it is in force, in seconds since 1970.
    pub since_s: f64,
}

/// Most steps of a ramp.
const RAMP_STEPS_MAX: usize = 20;

impl Ramp {
    /// Makes a ramp at its beginning.
    ///
    /// # Errors
    /// What its steps and its pause have to be.
    pub fn new(steps: Vec<f64>, hold_s: u64, since_s: f64) -> Result<Self, String> {
        let rising = steps.windows(2).all(|pair| pair[0] < pair[1]);
        let percentages = steps.iter().all(|step| (0.0..=100.0).contains(step));
        if !rising || !percentages || !(1..=RAMP_STEPS_MAX).contains(&steps.len()) {
            return Err(format!(
                "the steps of a ramp are 1 to {RAMP_STEPS_MAX} rising percentages, such as 1,5,25,100"
            ));
        }
        if !(1..=30 * 86_400).contains(&hold_s) {
            return Err("each step of a ramp holds for 1 s to 30 days".to_owned());
        }
        Ok(Self { steps, hold_s, at: 0, since_s })
    }

    /// Returns the ramp that was kept, if it is one that can be gone on with.
    pub fn of(kept: &Value) -> Option<Self> {
        let ramp: Self = serde_json::from_value(kept.clone()).ok()?;
        let (fresh, at) = (Self::new(ramp.steps.clone(), ramp.hold_s, ramp.since_s).ok()?, ramp.at);
        (at < fresh.steps.len()).then_some(ramp)
    }

    /// Returns the percentage in force.
    pub fn percent(&self) -> f64 {
        self.steps.get(self.at).copied().unwrap_or(0.0)
    }

    /// Returns the next step, once this one has held for long enough at `now_s`.
    pub fn due(&self, now_s: f64) -> Option<Self> {
        let next = self.at + 1;
        let held = now_s - self.since_s >= self.hold_s as f64;
        (held && next < self.steps.len()).then(|| Self { at: next, since_s: now_s, ..self.clone() })
    }

    /// Tells whether there is a step left.
    pub fn goes_on(&self) -> bool {
        self.at + 1 < self.steps.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ramp_rises_step_by_step_and_only_after_its_pause() {
        let ramp = Ramp::new(vec![1.0, 5.0, 100.0], 60, 1_000.0).expect("a ramp");
        assert_eq!((ramp.percent(), ramp.due(1_059.0)), (1.0, None));
        let second = ramp.due(1_060.0).expect("it is due");
        assert_eq!((second.percent(), second.since_s, second.goes_on()), (5.0, 1_060.0, true));
        let last = second.due(2_000.0).expect("it is due");
        assert_eq!((last.goes_on(), last.due(9_999.0)), (false, None));
        assert_eq!(Ramp::of(&json!(second)), Some(second));
        for wrong in [vec![], vec![5.0, 5.0], vec![5.0, 1.0], vec![1.0, 101.0]] {
            assert!(Ramp::new(wrong, 60, 0.0).is_err());
        }
        assert_eq!(Ramp::of(&json!({ "steps": [1], "hold_s": 1, "at": 1, "since_s": 0 })), None);
    }
}
