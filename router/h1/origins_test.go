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
	"slices"
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
		var fields []string
		for name, values := range r.Header {
			for _, v := range values {
				fields = append(fields, strings.ToLower(name)+": "+v)
			}
		}
		_, _ = io.WriteString(w, testimony(r.Method, r.URL.RequestURI(), r.Host, fields, string(body)))
	})
	return mux
}

// testimony is what an origin says of a request: all but the fields that are of one connection only.
func testimony(method, target, host string, fields []string, body string) string {
	fields = slices.DeleteFunc(fields, func(f string) bool {
		name, _, _ := strings.Cut(f, ":")
		return slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection", "te", "trailer"}, name)
	})
	slices.Sort(fields)
	return method + " " + target + " of " + host + "\n" + strings.Join(append(fields, "", body), "\n")
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
  else if (path.startsWith('/seen/')) {
    const fields = [];
    for (let i = 0; i < q.rawHeaders.length; i += 2) fields.push(q.rawHeaders[i].toLowerCase() + ': ' + q.rawHeaders[i + 1]);
    const passed = fields.filter(f => !/^(host|content-length|transfer-encoding|connection|te|trailer):/.test(f)).sort();
    r.end(Buffer.from([q.method + ' ' + q.url + ' of ' + q.headers.host, ...passed, '', body.toString('latin1')].join('\n'), 'latin1'));
  }
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

// TestOrigins: what passes the engine, origins of four makes read as it does; of what it
// refuses they see nothing; after that, and after odd exchanges, nobody's answer is another's.
func TestOrigins(t *testing.T) {
	t.Parallel()
	for name, addr := range origins(t) {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, on way) {
				f := newFront(t, addr, patience, on)
				t.Run("read alike", func(t *testing.T) { readAlike(t, f) })
				t.Run("canaries", func(t *testing.T) { canaries(t, f) })
				to, asked := NewTap(t, addr), []string(nil)
				t.Run("refused", func(t *testing.T) { asked = refused(t, to, newFront(t, to.Addr, patience, on)) })
				if got := to.Requests(); !slices.Equal(got, asked) { // by now nothing is under way
					t.Errorf("the origin was sent %q, want the canaries %q", got, asked)
				}
			})
		})
	}
}

// samples are fields that pass, and as what an origin sees them; "" is not at all.
var samples = []struct{ line, seen string }{
	{"X: y", "x: y"},
	{"X:", "x: "},
	{"x-Y:\tz \t", "x-y: z"},
	{"X-U: \xc3\xa9", "x-u: \xc3\xa9"},
	{"A: \"q, z\"", "a: \"q, z\""},
	{"Keep-Alive: 5", ""},
	{"Connection: x", ""},
	{"Connection: keep-alive", ""},
	{"TE: trailers", ""},
}

// readAlike sends requests made of parts that pass.
func readAlike(t *testing.T, f *front) {
	rapid.Check(t, func(r *rapid.T) {
		method := rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}).Draw(r, "method")
		path := rapid.SampledFrom([]string{"/seen/x", "/seen/a%20b", "/seen/a;b=c", "/seen/x?a=%zz&b;c", "/seen/~-._!$&'()*+,;=:@"}).Draw(r, "path")
		host := rapid.SampledFrom([]string{"a", "A.example:8080"}).Draw(r, "host")
		body := rapid.SampledFrom([]string{"", "hello", "GET /echo?evil HTTP/1.1\r\nHost: a\r\n\r\n", "0\r\n\r\n"}).Draw(r, "body")
		in, fields, dropped := method+" "+path+" HTTP/1.1\r\nHost: "+host+"\r\n", []string(nil), ""
		for _, s := range rapid.SliceOfN(rapid.SampledFrom(samples), 0, 4).Draw(r, "fields") {
			in += s.line + "\r\n"
			if s.line == "Connection: x" {
				dropped = "x: "
			}
			if s.seen != "" {
				fields = append(fields, s.seen)
			}
		}
		fields = slices.DeleteFunc(fields, func(f string) bool { return dropped != "" && strings.HasPrefix(f, dropped) })
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
		want := testimony(method, path, host, fields, body)
		if status, got, _, err := w.answer(method); status != 200 || got != want || err != nil {
			r.Fatalf("%q was read as %d %q, %v, want %q", in, status, got, err, want)
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
}

// refused sends what must not pass. Where it is the head that is not taken the origin gets not a
// byte. Where it is the body, of which the engine sends on what has come, it may have got a part,
// which its end cuts; so these come last. What is asked besides, between them, it returns.
func refused(t *testing.T, to *Tap, f *front) (asked []string) {
	sent := 0
	for _, ofBodies := range []bool{false, true} {
		for i, c := range desync() {
			fault := headFault(c.in)
			if (fault == None) != ofBodies {
				continue
			}
			w := dial(t, f.addr)
			w.send(c.in)
			status, body, resp, err := w.answer("POST")
			_ = w.Close()
			switch {
			case ofBodies && (err == nil && (status < 400 || !resp.Close) || strings.Contains(body, "evil")):
				t.Errorf("%s (%d): %.200q: got %d %q", c.class, i, c.in, status, body)
			case !ofBodies && (err != nil || status != fault.Status() || !resp.Close || to.Sent() != sent):
				t.Errorf("%s (%d): %.200q: got %d %q, %v, want %d and the end; the origin was sent %d bytes", c.class, i, c.in, status, body, err, fault.Status(), to.Sent()-sent)
			}
			if i%10 == 0 {
				nonce := fmt.Sprintf("refused-%d", i)
				_ = canary(f, dial(t, f.addr), nonce).Close()
				asked = append(asked, "GET /echo?"+nonce)
			}
			sent = to.Sent()
		}
	}
	slices.Sort(asked)
	return asked
}
