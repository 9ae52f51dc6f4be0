package h1

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// witness is what an origin says that it read.
func witness() http.Handler {
	mux := odd().(*http.ServeMux)
	mux.HandleFunc("/seen/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), body)
	})
	return mux
}

// origins are servers that others wrote, by name. nginx and HAProxy pass what
// they read on to net/http, so that it is seen how they read it. Where tests must not
// leave out anything all have to be there; elsewhere `make test` says which are not.
func origins(t *testing.T) map[string]string {
	t.Helper()
	s := httptest.NewServer(witness())
	t.Cleanup(s.Close)
	behind := s.Listener.Addr().String()
	all := map[string]string{"go": behind}
	dir := t.TempDir()
	for name, start := range map[string]func(path, dir, listen, behind string) *exec.Cmd{"nginx": nginx, "haproxy": haproxy, "node": node} {
		path, err := exec.LookPath(name)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + name) // where Debian has it, which not every user's PATH has
		}
		switch {
		case err == nil:
			listen := freeAddr(t)
			run(t, name, start(path, dir, listen, behind), listen)
			all[name] = listen
		case os.Getenv("CI") != "":
			t.Errorf("without %s: %v; hint: infra/deps.sh origins", name, err)
		default:
			t.Logf("without %s: %v", name, err)
		}
	}
	return all
}

func nginx(path, dir, listen, behind string) *exec.Cmd {
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
 server { listen %[2]s; keepalive_requests 100000;
  location / { proxy_pass http://%[3]s; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; } } }`, dir, listen, behind)
	file := filepath.Join(dir, "nginx.conf")
	_ = os.WriteFile(file, []byte(conf), 0o600)
	return exec.Command(path, "-p", dir, "-c", file, "-e", filepath.Join(dir, "nginx.log"))
}

func haproxy(path, dir, listen, behind string) *exec.Cmd {
	conf := fmt.Sprintf("defaults\n mode http\n timeout client 20s\n timeout server 20s\n timeout connect 5s\nfrontend f\n bind %s\n default_backend b\nbackend b\n http-reuse always\n server s %s\n", listen, behind)
	file := filepath.Join(dir, "haproxy.cfg")
	_ = os.WriteFile(file, []byte(conf), 0o600)
	return exec.Command(path, "-db", "-q", "-f", file)
}

func node(path, dir, listen, _ string) *exec.Cmd {
	script := `const [host, port] = process.argv[2].split(':');
require('http').createServer((q, r) => { const b = []; q.on('data', d => b.push(d)); q.on('end', () => {
  const body = Buffer.concat(b), path = q.url.split('?')[0];
  if (path === '/echo') r.end(q.url.slice(6));
  else if (path === '/big') r.end('0123456789'.repeat(300000));
  else if (path.startsWith('/status/')) { r.statusCode = +path.slice(8); r.end(); }
  else if (path.startsWith('/seen/')) r.end(q.method + ' ' + q.url + ' ' + body.toString('latin1'));
  else r.end('' + body.length); }); }).listen(+port, host);`
	file := filepath.Join(dir, "origin.js")
	_ = os.WriteFile(file, []byte(script), 0o600)
	return exec.Command(path, file, listen)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// run keeps a process until the test ends, and returns when it listens.
func run(t *testing.T, name string, cmd *exec.Cmd, addr string) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", addr) //nolint:noctx // a test's connection to its own machine
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %s", name, &out)
		}
		time.Sleep(10 * time.Millisecond) // the pause of a poll with a deadline
	}
}

// TestOrigins: what passes the engine, origins of four makes read as it does;
// after what it refuses, and after odd exchanges, nobody's answer is another's.
func TestOrigins(t *testing.T) {
	t.Parallel()
	for name, addr := range origins(t) {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, on way) {
				f := newFront(t, addr, patience, on)
				t.Run("read alike", func(t *testing.T) { readAlike(t, f) })
				t.Run("canaries", func(t *testing.T) { canaries(t, f) })
			})
		})
	}
}

// readAlike sends requests made of parts that pass.
func readAlike(t *testing.T, f *front) {
	rapid.Check(t, func(r *rapid.T) {
		method := rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}).Draw(r, "method")
		path := rapid.SampledFrom([]string{"/seen/x", "/seen/a%20b", "/seen/a;b=c", "/seen/x?a=%zz&b;c", "/seen/~-._!$&'()*+,;=:@"}).Draw(r, "path")
		fields := rapid.SliceOfN(rapid.SampledFrom([]string{"X: y", "X:", "x-Y:\tz \t", "Keep-Alive: 5", "Connection: x", "Connection: keep-alive", "X-U: \xc3\xa9", "TE: trailers", "A: \"q, z\""}), 0, 4).Draw(r, "fields")
		body := rapid.SampledFrom([]string{"", "hello", "GET /echo?evil HTTP/1.1\r\nHost: a\r\n\r\n", "0\r\n\r\n"}).Draw(r, "body")
		in := method + " " + path + " HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(fields, ""), "\r\n")
		if rapid.Bool().Draw(r, "chunked") {
			in += "Transfer-Encoding: chunked\r\n\r\n"
			if body != "" {
				in += fmt.Sprintf("%x;x=y\r\n%s\r\n", len(body), body)
			}
			in += "0\r\nX: y\r\n\r\n"
		} else {
			in += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		}
		w := dial(t, f.addr)
		defer func() { _ = w.Close() }()
		w.send(in)
		if status, got, _, err := w.answer(method); status != 200 || got != method+" "+path+" "+body || err != nil {
			r.Fatalf("%q was read as %d %q, %v", in, status, got, err)
		}
		canary(f, w, fmt.Sprint(time.Now().UnixNano()))
	})
}

func canaries(t *testing.T, f *front) {
	w := dial(t, f.addr)
	for i, o := range oddExchanges {
		_ = w.SetDeadline(time.Now().Add(time.Second)) // some origins wait for the whole body before they answer
		_ = o.do(w)                                    // how an origin answers is its own affair
		_ = w.Close()
		w = dial(t, f.addr)
		canary(f, w, fmt.Sprintf("odd-%d-%s", i, strings.ReplaceAll(o.name, " ", "-")))
	}
	for i, c := range desync() {
		if len(c.in) > 20000 {
			continue
		}
		w.send(c.in)
		status, body, resp, err := w.answer("POST")
		if err == nil && (status < 400 || !resp.Close) || strings.Contains(body, "evil") {
			t.Errorf("%s (%d): %.200q: got %d %q", c.class, i, c.in, status, body)
		}
		_ = w.Close()
		w = dial(t, f.addr)
		if i%10 == 0 {
			canary(f, w, fmt.Sprintf("refused-%d", i))
		}
	}
}
