package mover

import (
	"time"

	"github.com/cellway/cellway/directory"
)

// NewDryCell is the executor of a rehearsal over a cell.
func NewDryCell(real Cell) Cell {
	return dryCell{newTape(directory.Rehearsal{ID: "rh_1"}), "a", real}
}

// SetSpread says by how much the mover's waits differ, in place of chance.
func (v *Mover) SetSpread(spread func(below time.Duration) time.Duration) { v.spread = spread }
