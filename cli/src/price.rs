//! Money as people write it: major units with the currency's own number of decimals. Exact; never a float.

use events::{Currency, Money};

/// Reads an ISO 4217 code in any case of letters.
pub fn currency(text: &str) -> Result<Currency, String> {
    Currency::from_code(&text.to_ascii_uppercase()).ok_or_else(|| format!("`{text}` is not an ISO 4217 currency code"))
}

/// Reads `19.99` as so many minor units of the currency.
pub fn parse(text: &str, currency: Currency) -> Result<Money, String> {
    let code = currency.code();
    let Some(decimals) = currency.exponent().map(usize::from) else {
        return Err(format!("{code} has no minor unit; give the amount with --price-minor"));
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (text.contains('.') && !digits(fraction)) {
        return Err(format!("`{text}` is not a price: digits, and at most one point between them"));
    }
    if fraction.len() > decimals {
        return Err(format!("`{text}` has {} decimals; {code} has {decimals}", fraction.len()));
    }
    let amount = format!("{whole}{fraction:0<decimals$}").parse().map_err(|_| format!("`{text}` is too large"))?;
    Ok(Money::new(amount, currency))
}

/// Writes an amount in major units: `19.99 USD`.
pub fn show(money: Money) -> String {
    let decimals = money.currency.exponent().map_or(0, usize::from);
    let sign = if money.amount < 0 { "-" } else { "" };
    // At least one digit before the point.
    let digits = format!("{:0>width$}", money.amount.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let point = if decimals == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction} {}", money.currency.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_currency_has_its_own_decimals() {
        let amount = |text, currency| parse(text, currency).map(|money| money.amount);
        assert_eq!(amount("19.99", Currency::USD), Ok(1999));
        assert_eq!(amount("19.9", Currency::USD), Ok(1990));
        assert_eq!(amount("19", Currency::USD), Ok(1900));
        assert_eq!(amount("0.07", Currency::USD), Ok(7));
        assert_eq!(amount("500", Currency::JPY), Ok(500));
        assert_eq!(amount("1.234", Currency::KWD), Ok(1234));
        // 2^53 + 1 minor units: a float would round it.
        assert_eq!(amount("90071992547409.93", Currency::USD), Ok(9_007_199_254_740_993));
    }

    #[test]
    fn what_is_not_exactly_a_price_is_refused() {
        for wrong in ["19.999", "", ".", ".5", "5.", "1,000.00", "-1", "+1", "1e3", " 1", "1.2.3", "99999999999999999999"] {
            assert!(parse(wrong, Currency::USD).is_err(), "{wrong}");
        }
        assert!(parse("500.0", Currency::JPY).is_err());
        assert!(parse("1", Currency::XAU).is_err());
    }

    #[test]
    fn amounts_are_shown_in_major_units() {
        let shown = |amount, currency| show(Money::new(amount, currency));
        assert_eq!(shown(1999, Currency::USD), "19.99 USD");
        assert_eq!(shown(7, Currency::USD), "0.07 USD");
        assert_eq!(shown(-5, Currency::USD), "-0.05 USD");
        assert_eq!(shown(500, Currency::JPY), "500 JPY");
    }

    #[test]
    fn a_currency_is_read_in_any_case() {
        assert_eq!(currency("usd"), Ok(Currency::USD));
        assert!(currency("dollar").is_err());
    }
}
