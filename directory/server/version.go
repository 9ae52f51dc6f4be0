package server

import (
	"net/http"

	"github.com/cellway/cellway/infra/run"
)

// getVersion tells what this process was built from, and what its record looks like.
func (s *Server) getVersion(w http.ResponseWriter, r *http.Request) error {
	info := run.BuildInfo()
	out := struct {
		Version   string `json:"version"`
		Revision  string `json:"revision,omitempty"`
		GoVersion string `json:"goversion"`
		Schema    int64  `json:"schema,omitempty"`
	}{info["version"], info["revision"], info["goversion"], 0}
	var err error
	if s.Schema != nil {
		out.Schema, err = s.Schema(r.Context())
	}
	return answer(w, http.StatusOK, out, err)
}
