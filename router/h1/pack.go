package h1

// packBytes is the most of a head that waits without buffers.
const packBytes = 1 << 10

// pack keeps what was received of a head until there are buffers again. All of it is read
// anew then.
func (c *conn) pack() {
	if c.from < c.to {
		c.packed = append([]byte(nil), c.unread()...)
	}
}

func (c *conn) unpack() {
	if c.packed == nil {
		return
	}
	c.to = copy(c.in, c.packed)
	c.packed = nil
	c.req.Begin(c.srv.Limits)
}
