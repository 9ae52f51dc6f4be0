package resource

import (
	"encoding/base32"
	"fmt"

	"github.com/google/uuid"
)

// base32Form is Crockford's alphabet, which sorts like the bytes it stands for.
var base32Form = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID makes an id of a kind ("proj", "task") that sorts by the time it was made, where
// the column's collation is "C": a UUIDv7 in base32. It tells nothing of other tenants.
func NewID(kind string) (string, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return kind + "_" + base32Form.EncodeToString(u[:]), nil
}
