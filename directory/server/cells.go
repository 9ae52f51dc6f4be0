package server

import (
	"net/http"
	"strconv"

	"github.com/cellway/cellway/directory"
)

// A page is a list with, where there may be more, the way to the next one.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor,omitempty"`
}

func cellID(r *http.Request) directory.CellID { return directory.CellID(pathParams(r)["cell"]) }

func (s *Server) addCell(w http.ResponseWriter, r *http.Request) error {
	var in directory.Cell
	if err := read(r, &in); err != nil {
		return err
	}
	c, err := s.Directory.AddCell(r.Context(), in)
	return answer(w, http.StatusOK, c, err)
}

func (s *Server) listCells(w http.ResponseWriter, r *http.Request) error {
	cells, err := s.Directory.ListCells(r.Context())
	return answer(w, http.StatusOK, page[directory.Cell]{Items: full(cells)}, err)
}

// full makes an empty list [] where it would be null.
func full[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *Server) getCell(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Directory.Cell(r.Context(), cellID(r))
	return answer(w, http.StatusOK, c, err)
}

func (s *Server) removeCell(w http.ResponseWriter, r *http.Request) error {
	lost, _ := strconv.ParseBool(r.URL.Query().Get("lost")) // the contract has checked it
	return done(w, s.Directory.RemoveCell(r.Context(), cellID(r), lost))
}

func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Incarnation string `json:"incarnation"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	return done(w, s.Directory.Heartbeat(r.Context(), cellID(r), in.Incarnation))
}

func (s *Server) setCellState(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		State directory.CellState `json:"state"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	c, err := s.Directory.SetCellState(r.Context(), cellID(r), in.State)
	return answer(w, http.StatusOK, c, err)
}
