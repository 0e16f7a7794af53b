//! Seconds and nanoseconds. Inside the program every time is a whole number of nanoseconds on the device clock.

/// Nanoseconds in a second.
pub const NS_PER_S: i64 = 1_000_000_000;

/// Times further from zero than this are refused: 127 years, so that Unix times pass and sums never overflow.
const MAX_SECONDS: f64 = 4e9;

/// The nearest nanosecond.
///
/// # Errors
/// A sentence's end when the time is not finite or lies beyond ±4·10⁹ s.
pub fn seconds_to_ns(seconds: f64) -> Result<i64, String> {
    if !seconds.is_finite() {
        return Err(format!("is {seconds}, not a time in seconds"));
    }
    if seconds.abs() > MAX_SECONDS {
        return Err(format!(
            "is {seconds:e} s, beyond the accepted range of ±{MAX_SECONDS:e} s"
        ));
    }
    // Split first: the fraction of a large time keeps its own precision in the product.
    let whole = seconds.trunc();
    Ok(whole as i64 * NS_PER_S + ((seconds - whole) * NS_PER_S as f64).round() as i64)
}

/// Seconds of a time in nanoseconds.
pub fn ns_to_seconds(ns: i64) -> f64 {
    ns as f64 / NS_PER_S as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_nanosecond() {
        assert_eq!(seconds_to_ns(0.0).unwrap(), 0);
        assert_eq!(seconds_to_ns(-1.5).unwrap(), -1_500_000_000);
        assert_eq!(seconds_to_ns(0.123_456_789_6).unwrap(), 123_456_790);
        assert_eq!(seconds_to_ns(6_365.147_266_667).unwrap(), 6_365_147_266_667);
    }

    #[test]
    fn refuses_what_is_no_time() {
        for bad in [f64::NAN, f64::INFINITY, -5e9, 1e300] {
            assert!(seconds_to_ns(bad).is_err(), "{bad} was accepted");
        }
    }
}
