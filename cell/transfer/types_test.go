package transfer_test

// everyType has a column of every built-in type that a SaaS uses, and the shapes
// that make copying hard: generated and identity columns, composite keys, foreign
// keys, unique constraints, partitions, domains and enums.
const everyType = `
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy');
	CREATE TYPE app.pair AS (a integer, b text);
	CREATE DOMAIN app.email AS text CHECK (VALUE LIKE '%@%');
	CREATE DOMAIN app.page AS xml;
	CREATE TABLE app.thing (
		tenant_id bigint NOT NULL, id uuid NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY,
		i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, num numeric, money numeric(12,2),
		b boolean, t text, v varchar(200), c char(5), by bytea, d date, ti time, ttz timetz, ts timestamp, tsz timestamptz,
		iv interval, u uuid, j json, jb jsonb, ip inet, net cidr, mac macaddr, bits bit varying(16), arr integer[], tarr text[],
		r int4range, tr tstzrange, x xml, page app.page, tv tsvector, p point, mood app.mood, moods app.mood[], pair app.pair, mail app.email,
		lower text GENERATED ALWAYS AS (lower(t)) STORED,
		PRIMARY KEY (tenant_id, id));
	CREATE TABLE app.part (
		tenant_id bigint NOT NULL, thing uuid NOT NULL, no integer NOT NULL, label text, code text,
		PRIMARY KEY (tenant_id, thing, no), UNIQUE (tenant_id, code),
		FOREIGN KEY (tenant_id, thing) REFERENCES app.thing (tenant_id, id) ON DELETE CASCADE);
	CREATE TABLE app.event (
		tenant_id bigint NOT NULL, at date NOT NULL, no integer NOT NULL, what text,
		PRIMARY KEY (tenant_id, at, no)) PARTITION BY RANGE (at);
	CREATE TABLE app.event_old PARTITION OF app.event FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
	CREATE TABLE app.event_new PARTITION OF app.event FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
	CREATE TABLE app.counter (tenant_id bigint PRIMARY KEY, v bigint NOT NULL);
	GRANT USAGE ON ALL SEQUENCES IN SCHEMA app TO cell_app;`

var everyTable = []string{"app.thing", "app.part", "app.event", "app.counter"}

// fill writes rows with ordinary, extreme and missing values.
const fill = `
	INSERT INTO app.thing (tenant_id, id, i2, i4, i8, f4, f8, num, money, b, t, v, c, by, d, ti, ttz, ts, tsz, iv, u, j, jb, ip, net, mac, bits, arr, tarr, r, tr, x, page, tv, p, mood, moods, pair, mail)
	SELECT nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), 32767, -2147483648, 9223372036854775807, 'NaN', 'Infinity', 'NaN', 1234567890.12, true,
	       pg_catalog.repeat('Zürich \ "quote" ' || E'\t\n', 20), 'v', 'c', '\x00ff5c'::bytea, 'infinity', '24:00', '12:00+02', '-infinity', 'infinity', '1 mon -2 days 03:04:05.678',
	       pg_catalog.gen_random_uuid(), '{"b": 1, "a": 2, "a": 3}', '{"b": [1, null]}', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', '{1,NULL,3}', '{"a,b",NULL,""}',
	       '[1,5)', '[2026-01-01,)', '<a>b</a>', '<?xml version="1.0"?><a>b</a>', 'fat cat', '(1.5,-2)', 'happy', '{sad,ok}', '(1,"x,y")', 'a@b'
	  FROM pg_catalog.generate_series(1, 3);
	INSERT INTO app.thing (tenant_id, id, f4, f8, num, arr, r, x)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), '-0', 'NaN', '-Infinity', '{}', 'empty', E'<?xml version="1.0" encoding="UTF-8"?>\n\n<a/>');
	INSERT INTO app.thing (tenant_id, id, i2, f8, num, b, t, v, by, d, x)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), 1, 0.1, 1e100, false, pg_catalog.repeat('x', 1 << 20), '', '', '0001-01-01 BC',
	        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><a/>');
	INSERT INTO app.part (tenant_id, thing, no, label, code)
	SELECT t.tenant_id, t.id, k, 'part ' || k, pg_catalog.gen_random_uuid()::text FROM app.thing t, pg_catalog.generate_series(1, 4) k;
	INSERT INTO app.event (tenant_id, at, no, what)
	SELECT nullif(current_setting('cell.tenant'), '')::bigint, '2025-12-25'::date + n, n, 'event' FROM pg_catalog.generate_series(1, 20) n;
	INSERT INTO app.counter (tenant_id, v) VALUES (nullif(current_setting('cell.tenant'), '')::bigint, 0);`
