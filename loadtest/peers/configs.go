package peers

import (
	"fmt"
	"os"
	"strconv"
)

// Every peer keeps connections to the origin, logs nothing, buffers no request on
// disk and speaks HTTP/1.1 to the origin; nothing else differs from its defaults, but
// that all speak TLS 1.3 (nginx does by itself from 1.23.4 on).

func nginx(path string) *contender {
	return program("nginx", path, func(l *lab, c *contender, dir string) (map[string]string, []string) {
		user := ""
		if os.Getuid() == 0 {
			user = "user root;\n" // the workers' directories are ours
		}
		conf := fmt.Sprintf(`%sdaemon off;
worker_processes %d;
worker_rlimit_nofile %d;
pid %[4]s/pid;
error_log %[4]s/error.log crit;
events { worker_connections 16384; }
http {
	access_log off;
	client_body_temp_path %[4]s/body; proxy_temp_path %[4]s/proxy; fastcgi_temp_path %[4]s/f; uwsgi_temp_path %[4]s/u; scgi_temp_path %[4]s/s;
	map_hash_max_size 262144; map_hash_bucket_size 128;
	map $host $cell { default ""; include %[4]s/tenants; }
	keepalive_timeout 600s; keepalive_requests 1000000000; client_max_body_size 0;
	upstream origin { server %[5]s; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600s; }
	server {
		listen %[6]s backlog=4096;
		listen %[7]s ssl http2 backlog=4096;
		ssl_certificate %[8]s; ssl_certificate_key %[9]s; ssl_protocols TLSv1.2 TLSv1.3;
		location / {
			if ($cell = "") { return 404; }
			proxy_pass http://$cell;
			proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
			proxy_request_buffering off; proxy_max_temp_file_size 0;
		}
	}
}
`, user, l.workers(), openFiles, dir, l.originAddr, c.plain, c.tls, l.cert.certFile, l.cert.keyFile)
		return map[string]string{"nginx.conf": conf, "tenants": tenantLines(l.o.Tenants, "%s origin;\n")},
			[]string{"-p", dir, "-e", dir + "/error.log", "-c", dir + "/nginx.conf"}
	})
}

// openFiles is what a proxy with 5,000 idle connections may open.
const openFiles = 16384

func haproxy(path string) *contender {
	return program("haproxy", path, func(l *lab, c *contender, dir string) (map[string]string, []string) {
		conf := fmt.Sprintf(`global
	nbthread %d
	maxconn 7000
	ssl-default-bind-options no-sslv3
defaults
	mode http
	timeout connect 5s
	timeout client 600s
	timeout server 600s
	timeout http-keep-alive 600s
	http-reuse always
frontend tenants
	bind %s
	bind %s ssl crt %s alpn h2,http/1.1
	use_backend %%[req.hdr(host),lower,map_str(%s/tenants)]
backend origin
	server origin %s pool-max-conn -1
`, l.workers(), c.plain, c.tls, l.cert.bothFile, dir, l.originAddr)
		return map[string]string{"haproxy.cfg": conf, "tenants": tenantLines(l.o.Tenants, "%s origin\n")},
			[]string{"-db", "-f", dir + "/haproxy.cfg"}
	})
}

// caddy has one route for all tenants: its map is a list that is searched from the front.
func caddy(path string) *contender {
	return program("caddy", path, func(l *lab, c *contender, dir string) (map[string]string, []string) {
		routes := fmt.Sprintf(`[{"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": %q}],
			"transport": {"protocol": "http", "compression": false, "keep_alive": {"max_idle_conns": 1024, "max_idle_conns_per_host": 1024}}}]}]`, l.originAddr)
		conf := fmt.Sprintf(`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": {
	"tls": {"certificates": {"load_files": [{"certificate": %q, "key": %q}]}},
	"http": {"servers": {
		"plain": {"listen": [%q], "automatic_https": {"disable": true}, "routes": %[4]s},
		"tls": {"listen": [%[5]q], "automatic_https": {"disable": true}, "tls_connection_policies": [{}], "protocols": ["h1", "h2"], "routes": %[4]s}
	}}}}
`, l.cert.certFile, l.cert.keyFile, c.plain, routes, c.tls)
		return map[string]string{"caddy.json": conf}, []string{"run", "--config", dir + "/caddy.json"}
	})
}

// traefik has one route for all tenants: a hundred thousand rules are not what its router is for.
func traefik(path string) *contender {
	return program("traefik", path, func(l *lab, c *contender, dir string) (map[string]string, []string) {
		static := fmt.Sprintf(`log: {level: ERROR}
global: {checkNewVersion: false, sendAnonymousUsage: false}
entryPoints: {plain: {address: %q}, tls: {address: %q}}
providers: {file: {filename: %s, watch: false}}
serversTransport: {maxIdleConnsPerHost: 1024}
`, c.plain, c.tls, strconv.Quote(dir+"/dynamic.yml"))
		dynamic := fmt.Sprintf(`http:
  routers:
    plain: {entryPoints: [plain], rule: "PathPrefix(`+"`/`"+`)", service: origin}
    tls: {entryPoints: [tls], rule: "PathPrefix(`+"`/`"+`)", service: origin, tls: {}}
  services: {origin: {loadBalancer: {servers: [{url: "http://%s"}]}}}
tls: {certificates: [{certFile: %q, keyFile: %q}]}
`, l.originAddr, l.cert.certFile, l.cert.keyFile)
		return map[string]string{"traefik.yml": static, "dynamic.yml": dynamic}, []string{"--configFile=" + dir + "/traefik.yml"}
	})
}
