// Package bare makes a program at home where there is nothing but itself: an
// image from scratch has neither certificate authorities nor time zones. Those
// of the system, and of SSL_CERT_FILE and SSL_CERT_DIR, win where they exist.
// It is imported for its effect.
package bare

import (
	_ "time/tzdata"

	_ "golang.org/x/crypto/x509roots/fallback"
)
