package client

import (
	"context"
	"net/http"
)

// A Version is what the directory that answers was built from.
type Version struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	GoVersion string `json:"goversion"`
	Schema    int64  `json:"schema"` // number of the newest migration that its record has
}

// Version asks an operator's question: which directory is this?
func (c *Client) Version(ctx context.Context) (Version, error) {
	var out Version
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "version"}, into: &out, repeat: true})
	return out, err
}
