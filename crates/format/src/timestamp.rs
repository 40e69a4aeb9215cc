//! Transaction ids as points in time.
//!
//! The upper half of an id counts minutes (years since 1900, months of 31 days), the lower half
//! the fraction of that minute in units of 60 s / 2^32: the layout of `persistent.TimeStamp`.

use crate::ids::Tid;

const UNITS_PER_SECOND: f64 = 4_294_967_296.0 / 60.0;
/// Exact, which its reciprocal is not.
const SECONDS_PER_UNIT: f64 = 60.0 / 4_294_967_296.0;
const SECONDS_PER_DAY: i64 = 86_400;
/// The seconds from 1901 to the epoch.
const SINCE_1901: i64 = 2_177_452_800;

/// The id that stands for a time, in seconds since the epoch (UTC).
///
/// Times before 1900 give the least id, those beyond what an id can hold the greatest.
#[must_use]
pub fn tid_of_time(seconds: f64) -> Tid {
    let minutes = (seconds / 60.0).floor();
    let within = (seconds - minutes * 60.0).clamp(0.0, 59.999_999_999);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float saturates in a cast"
    )]
    let minutes = minutes as i64;
    let Some(high) = calendar_minutes(minutes) else {
        return if minutes < 0 { Tid::ZERO } else { Tid::MAX };
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to less than a minute, which is less than 2^32 units"
    )]
    let low = (within * UNITS_PER_SECOND) as u32;
    Tid(u64::from(high) << 32 | u64::from(low))
}

/// The time that an id stands for, in seconds since the epoch (UTC).
///
/// To the last bit as `persistent` has it, which counts from 1901 and rounds there.
#[must_use]
pub fn time_of_tid(tid: Tid) -> f64 {
    let high = i64::try_from(tid.0 >> 32).unwrap_or(0);
    let (minute, hours) = (high % 60, high / 60);
    let (hour, days) = (hours % 24, hours / 24);
    let (day, months) = (days % 31, days / 31);
    let (month, year) = (months % 12, months / 12 + 1900);
    let days = days_from_civil(year, month + 1, day + 1);
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for every year an id can hold"
    )]
    let whole = (days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + SINCE_1901) as f64;
    let units = u32::try_from(tid.0 & 0xffff_ffff).unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let since_1901 = SINCE_1901 as f64;
    whole + f64::from(units) * SECONDS_PER_UNIT - since_1901
}

/// The id of a transaction that commits at `now`: later than `last`, whatever the clock says.
#[must_use]
pub fn next_tid(now: f64, last: Tid) -> Tid {
    tid_of_time(now).max(Tid(last.0.saturating_add(1)))
}

/// Minutes since the epoch as the upper half of an id.
fn calendar_minutes(minutes: i64) -> Option<u32> {
    let (days, minute_of_day) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    if days.abs() > 4_000_000 {
        return None;
    }
    let (year, month, day) = civil_from_days(days);
    let value = (((year - 1900) * 12 + month - 1) * 31 + day - 1) * 1440 + minute_of_day;
    u32::try_from(value).ok()
}

/// Days since the epoch of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years counted from March, so that the leap day is the last of its year.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date (year, month, day) that is `days` after the epoch.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let leaps = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_becomes_the_id_that_the_format_gives_it() {
        // 2026-11-21 08:50:00 UTC: ((126 * 12 + 10) * 31 + 20) * 1440 + 530 minutes.
        let minutes: u64 = ((126 * 12 + 10) * 31 + 20) * 1440 + 530;
        assert_eq!(tid_of_time(1_795_251_000.0), Tid(minutes << 32));
        assert_eq!(
            tid_of_time(1_795_251_030.0),
            Tid(minutes << 32 | 0x8000_0000)
        );
    }

    #[test]
    fn times_and_ids_convert_both_ways() {
        for seconds in [
            0.0,
            951_782_400.5,
            1_709_164_799.25,
            1_795_251_059.75,
            4_102_444_800.0,
        ] {
            let back = time_of_tid(tid_of_time(seconds));
            assert!((back - seconds).abs() < 1e-6, "{seconds} became {back}");
        }
    }

    #[test]
    fn ids_grow_even_when_the_clock_goes_backwards() {
        let last = tid_of_time(1_000_000_000.0);
        assert_eq!(next_tid(999_999_999.0, last), Tid(last.0 + 1));
        assert!(next_tid(1_000_000_001.0, last) > Tid(last.0 + 1));
    }

    #[test]
    fn senseless_times_saturate() {
        assert_eq!(tid_of_time(-1e18), Tid::ZERO);
        assert_eq!(tid_of_time(1e18), Tid::MAX);
    }
}
