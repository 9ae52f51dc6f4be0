package mover

import "github.com/cellway/cellway/directory"

// NewDryCell is the executor of a rehearsal over a cell.
func NewDryCell(real Cell) Cell {
	return dryCell{newTape(directory.Rehearsal{ID: "rh_1"}), "a", real}
}
