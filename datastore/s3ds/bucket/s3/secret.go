package s3bucket

import "fmt"

// Secret is a string that does not print: fmt, encoding/json and log/slog all show "[redacted]" (or nothing for an empty
// one). string(s) is the value.
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter, so that no verb shows the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText implements encoding.TextMarshaler, which covers JSON and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
