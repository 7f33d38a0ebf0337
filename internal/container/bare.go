package container

import (
	_ "time/tzdata"

	_ "golang.org/x/crypto/x509roots/fallback"
)
