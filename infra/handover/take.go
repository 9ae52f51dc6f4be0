package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// firstFD is where the sockets begin that systemd hands over, and mostFDs how many
// anybody may.
const (
	firstFD = 3
	mostFDs = 64
)

// inherited are the sockets of LISTEN_FDS, if they are for this process: who starts
// it without a fork in between cannot know LISTEN_PID, and leaves it out.
func inherited() ([]*net.TCPListener, error) {
	text := os.Getenv("LISTEN_FDS")
	if pid := os.Getenv("LISTEN_PID"); text == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > mostFDs {
		return nil, fmt.Errorf("LISTEN_FDS=%s is not a number of sockets", text)
	}
	var all []*net.TCPListener
	for fd := firstFD; fd < firstFD+n; fd++ {
		ln, err := listenerOf(fd)
		if err != nil {
			return nil, fmt.Errorf("LISTEN_FDS: %w", err)
		}
		tcp, ok := ln.(*net.TCPListener)
		if !ok {
			return nil, fmt.Errorf("LISTEN_FDS: descriptor %d listens at %s, which is not TCP", fd, ln.Addr())
		}
		all = append(all, tcp)
	}
	return all, nil
}

// listenerOf makes a descriptor a listener.
func listenerOf(fd int) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "handed over")
	if f == nil {
		return nil, fmt.Errorf("no descriptor %d", fd)
	}
	defer func() { _ = f.Close() }() // FileListener has its own copy
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no listening socket: %w", fd, err)
	}
	return ln, nil
}

// take gets the sockets of the process at the path, if there is one.
func (s *Sockets) take(ctx context.Context) error {
	dialer := net.Dialer{Timeout: answerTime}
	nc, err := dialer.DialContext(ctx, "unix", s.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil // nobody is there, or nobody any more
	}
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	from, ok := nc.(*net.UnixConn)
	if !ok {
		return errors.Join(errors.New("take over: not a Unix socket"), nc.Close())
	}
	s.from = from
	stop := context.AfterFunc(ctx, func() { _ = from.SetDeadline(time.Now()) })
	defer stop()
	fds, err := receive(from)
	if hungUp(err) {
		s.from = nil
		_ = from.Close() // as its other end
		return nil       // it ends without a successor
	}
	s.since = time.Now()
	if err != nil {
		return fmt.Errorf("take over from the process at %s: %w", s.path, err)
	}
	for i, fd := range fds {
		ln, e := listenerOf(fd)
		switch tcp, isTCP := ln.(*net.TCPListener); {
		case e != nil:
			err = errors.Join(err, e)
		case isTCP:
			s.handed = append(s.handed, tcp)
		case i == 0:
			s.control, _ = ln.(*net.UnixListener) // nil: found out below
		}
	}
	if s.control == nil {
		err = errors.Join(err, errors.New("no control socket among what was handed over"))
	}
	return err
}

// hungUp reports whether the other process has ended the connection without a word.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// receive reads hello and the descriptors that come with it. The other process
// writes its files before, which may be large.
func receive(c *net.UnixConn) ([]int, error) {
	if err := c.SetDeadline(time.Now().Add(readyTime)); err != nil {
		return nil, err
	}
	text, rights := make([]byte, len(hello)), make([]byte, syscall.CmsgSpace(4*mostFDs))
	n, m, _, _, err := c.ReadMsgUnix(text, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, err
	}
	if string(text[:n]) != hello {
		return nil, fmt.Errorf("it says %q, want %q: another version?", text[:n], hello)
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return nil, fmt.Errorf("read what is handed over: %w", err)
	}
	var fds []int
	for i := range messages {
		some, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("read what is handed over: %w", err)
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

// succeed waits until this process can serve, and tells the one before it.
func (s *Sockets) succeed(ctx context.Context, check func(context.Context) error) error {
	if s.from == nil {
		return nil
	}
	ready, cancel := context.WithDeadline(ctx, s.since.Add(readyTime))
	defer cancel()
	if err := await(ready, check); err != nil {
		return err
	}
	said, err := s.claim(ctx)
	switch {
	case said == yours || hungUp(err):
		return nil // it accepts no more, or is gone: then it accepts no more either
	case err != nil:
		return fmt.Errorf("the process at %s does not hand over: %w", s.path, err)
	}
	return fmt.Errorf("the process at %s does not hand over: it said %q", s.path, said)
}

// claim says that this process is ready, and returns what the other one says to it,
// which has an end of its own: this one waits for longer.
func (s *Sockets) claim(ctx context.Context) (string, error) {
	if err := s.from.SetDeadline(s.since.Add(readyTime + 3*answerTime)); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.from.SetDeadline(time.Now()) })
	defer stop()
	_, _ = io.WriteString(s.from, ready) // who does not take it has said why, or is gone
	r := bufio.NewReaderSize(s.from, len(yours))
	said, err := r.ReadString('\n')
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return said, err
	}
	// From here on the other one cannot say it any more. Did it, in the last moment?
	if e := errors.Join(s.from.CloseRead(), s.from.SetReadDeadline(time.Now().Add(answerTime))); e != nil {
		return "", e
	}
	if said, e := r.ReadString('\n'); e == nil {
		return said, nil
	}
	return "", err
}

// await asks until check is content, or ctx ends.
func await(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready to take over: %w: %w", ctx.Err(), err)
		}
	}
}

// publish opens the control socket, where none was handed over.
func (s *Sockets) publish() error {
	if s.path == "" || s.control != nil {
		return nil
	}
	// That the addresses are ours says that nobody lives at the path.
	if info, err := os.Lstat(s.path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return fmt.Errorf("control socket %s: it is another kind of file", s.path)
		}
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
	}
	ln, err := net.Listen("unix", s.path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	control, ok := ln.(*net.UnixListener)
	if !ok {
		return errors.Join(errors.New("control socket: not a Unix socket"), ln.Close())
	}
	control.SetUnlinkOnClose(false) // it is the next process's
	s.control = control
	if err := os.Chmod(s.path, 0o600); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}
