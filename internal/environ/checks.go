package environ

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Check returns what is wrong with a value and what would be accepted, or "".
type Check func(value string) string

// IsText accepts everything.
func IsText(string) string { return "" }

// IsDuration accepts a duration of zero or more.
func IsDuration(v string) string {
	if d, err := time.ParseDuration(v); err != nil || d < 0 {
		return `must be a duration such as "90s" or "5m"`
	}
	return ""
}

// IsPositiveDuration accepts a duration above zero.
func IsPositiveDuration(v string) string {
	if d, err := time.ParseDuration(v); err != nil || d <= 0 {
		return `must be a duration above zero, such as "90s" or "5m"`
	}
	return ""
}

// IsBool accepts what [strconv.ParseBool] does.
func IsBool(v string) string {
	if _, err := strconv.ParseBool(v); err != nil {
		return "must be true or false"
	}
	return ""
}

// IsCount accepts a whole number of zero or more.
func IsCount(v string) string {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < 0 {
		return "must be a whole number, 0 or more"
	}
	return ""
}

// IsPositive accepts a whole number above zero.
func IsPositive(v string) string {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n <= 0 {
		return "must be a whole number, 1 or more"
	}
	return ""
}

// IsHostPort accepts host:port, where the host may be missing.
func IsHostPort(v string) string {
	_, port, err := net.SplitHostPort(v)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		return `must be host:port, such as "127.0.0.1:8099" or ":8099"`
	}
	return ""
}

// IsOneOf accepts the given values.
func IsOneOf(values ...string) Check {
	return func(v string) string {
		if !slices.Contains(values, v) {
			return "must be one of: " + strings.Join(values, ", ")
		}
		return ""
	}
}
