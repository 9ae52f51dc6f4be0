package transfer_test

// everyType has a column of every built-in type that a SaaS uses, and the shapes
// that make copying hard: generated and identity columns, composite keys, foreign
// keys, unique constraints, partitions of each kind and of two levels, domains and
// enums. app.thing and app.search travel as text, app.rare in binary form. The key of
// app.nick is citext, where that extension is there.
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
		r int4range, tr tstzrange, x xml, xs xml[], page app.page, tv tsvector, p point, mood app.mood, moods app.mood[], pair app.pair, mail app.email,
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
	CREATE TABLE app.rare (
		tenant_id bigint NOT NULL, id integer NOT NULL, dr daterange, nr numrange, sr tsrange, br int8range, im int4multirange, nm nummultirange, dm datemultirange, tm tstzmultirange,
		bits bit(10), vbits varbit, mac macaddr8, way jsonpath, box box, circle circle, line line, seg lseg, open path, poly polygon, name name, ch "char",
		tszs timestamptz[], uuids uuid[], jbs jsonb[], bys bytea[], nums numeric[], ivs interval[], boxes box[], ranges tsrange[], grid integer[][],
		PRIMARY KEY (tenant_id, id));
	CREATE TABLE app.search (tenant_id bigint NOT NULL, id integer NOT NULL, q tsquery, qs tsquery[], PRIMARY KEY (tenant_id, id));
	CREATE TABLE app.bucket (tenant_id bigint NOT NULL, id uuid NOT NULL, v integer NOT NULL, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id, id);
	CREATE TABLE app.bucket_0 PARTITION OF app.bucket FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE app.bucket_1 PARTITION OF app.bucket FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE TABLE app.place (tenant_id bigint NOT NULL, land text NOT NULL, no integer NOT NULL, v integer, PRIMARY KEY (tenant_id, land, no)) PARTITION BY LIST (land);
	CREATE TABLE app.place_ch PARTITION OF app.place FOR VALUES IN ('ch', 'li');
	CREATE TABLE app.place_de PARTITION OF app.place FOR VALUES IN ('de') PARTITION BY HASH (no);
	CREATE TABLE app.place_de_0 PARTITION OF app.place_de FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE app.place_de_1 PARTITION OF app.place_de FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE TABLE app.place_rest PARTITION OF app.place DEFAULT PARTITION BY RANGE (no);
	CREATE TABLE app.place_rest_low PARTITION OF app.place_rest FOR VALUES FROM (MINVALUE) TO (10);
	CREATE TABLE app.place_rest_high PARTITION OF app.place_rest FOR VALUES FROM (10) TO (MAXVALUE);
	DO $$
	DECLARE
		kind text := 'text';
	BEGIN
		IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext') THEN
			CREATE EXTENSION citext SCHEMA public;
			kind := 'public.citext';
		END IF;
		EXECUTE format('CREATE TABLE app.nick (tenant_id bigint NOT NULL, nick %1$s NOT NULL, mail %1$s, others %1$s[], n integer, PRIMARY KEY (tenant_id, nick), UNIQUE (tenant_id, mail))', kind);
	END $$;
	CREATE TABLE app.counter (tenant_id bigint PRIMARY KEY, v bigint NOT NULL);
	GRANT USAGE ON ALL SEQUENCES IN SCHEMA app TO cell_app;`

var everyTable = []string{"app.thing", "app.part", "app.event", "app.counter", "app.rare", "app.bucket", "app.place", "app.nick", "app.search"}

// fill writes rows with ordinary, extreme and missing values.
const fill = `
	INSERT INTO app.thing (tenant_id, id, i2, i4, i8, f4, f8, num, money, b, t, v, c, by, d, ti, ttz, ts, tsz, iv, u, j, jb, ip, net, mac, bits, arr, tarr, r, tr, x, page, tv, p, mood, moods, pair, mail)
	SELECT nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), 32767, -2147483648, 9223372036854775807, 'NaN', 'Infinity', 'NaN', 1234567890.12, true,
	       pg_catalog.repeat('Zürich \ "quote" ' || E'\t\n', 20), 'v', 'c', '\x00ff5c'::bytea, 'infinity', '24:00', '12:00+02', '-infinity', 'infinity', '1 mon -2 days 03:04:05.678',
	       pg_catalog.gen_random_uuid(), '{"b": 1, "a": 2, "a": 3}', '{"b": [1, null]}', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', '{1,NULL,3}', '{"a,b",NULL,""}',
	       '[1,5)', '[2026-01-01,)', '<a>b</a>', '<?xml version="1.0"?><a>b</a>', 'fat cat', '(1.5,-2)', 'happy', '{sad,ok}', '(1,"x,y")', 'a@b'
	  FROM pg_catalog.generate_series(1, 3);
	INSERT INTO app.thing (tenant_id, id, f4, f8, num, arr, r, x, xs)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), '-0', 'NaN', '-Infinity', '{}', 'empty', E'<?xml version="1.0" encoding="UTF-8"?>\n\n<a/>',
	        ARRAY[E'<?xml version="1.0" encoding="UTF-8"?>\n\n<a/>', '<?xml version="1.0" standalone="yes"?><a/>', E'\n\nx', '', NULL]::xml[]);
	INSERT INTO app.thing (tenant_id, id, i2, f8, num, b, t, v, by, d, x)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), 1, 0.1, 1e100, false, pg_catalog.repeat('x', 1 << 20), '', '', '0001-01-01 BC',
	        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><a/>');
	INSERT INTO app.part (tenant_id, thing, no, label, code)
	SELECT t.tenant_id, t.id, k, 'part ' || k, pg_catalog.gen_random_uuid()::text FROM app.thing t, pg_catalog.generate_series(1, 4) k;
	INSERT INTO app.event (tenant_id, at, no, what)
	SELECT nullif(current_setting('cell.tenant'), '')::bigint, '2025-12-25'::date + n, n, 'event' FROM pg_catalog.generate_series(1, 20) n;
	INSERT INTO app.rare (tenant_id, id, dr, nr, sr, br, im, nm, dm, tm, bits, vbits, mac, way, box, circle, line, seg, open, poly, name, ch,
	                      tszs, uuids, jbs, bys, nums, ivs, boxes, ranges, grid)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, 1, '[2026-01-01,2026-02-01)', '(1.5,2.50]', '[2026-01-01 10:00,2026-01-02 11:30:00.000001)', '[1,9223372036854775807)',
	        '{[1,3),[5,9)}', '{[1.0,1.00],(2,NaN)}', '{[2026-01-01,infinity)}', '{[2026-03-29 01:30+01,2026-03-29 03:30+02)}', B'1010101011', B'1',
	        '08:00:2b:01:02:03:04:05', '$.a[*] ? (@.b > 1.50 && @.c like_regex "^x" flag "i")', '(1.5,2),(-0.1,1e-300)', '<(1,2),0.1>', '{1,-1,0.3}', '[(0,0),(1,1e-10)]',
	        '[(0,0),(1,1)]', '((0,0),(1,0),(0,1.1))', 'a name', 'x',
	        '{infinity,"2026-03-29 01:30:00+01",NULL}', '{00000000-0000-0000-0000-000000000001,NULL}', ARRAY['{"b": 1.50, "a": [null]}', 'null', NULL]::jsonb[], ARRAY['\x00ff5c', '', NULL]::bytea[],
	        '{NaN,1.10,-Infinity,1e100}', '{1 mon -2 days 03:04:05.678,NULL}', ARRAY['(1,1),(0,0)', '(2,2),(1,1)']::box[], '{"[2026-01-01 00:00,)",empty}', '[0:1][-1:0]={{1,2},{NULL,4}}'),
	       (nullif(current_setting('cell.tenant'), '')::bigint, 2, 'empty', '(,)', '(-infinity,infinity]', 'empty',
	        '{}', '{(,)}', '{}', '{(,)}', B'0000000000', '',
	        'ff:ff:ff:ff:ff:ff:ff:ff', 'strict $', '(Infinity,1),(0,-Infinity)', '<(0,0),0>', '{0,-1,0}', '[(-0,0),(-0,0)]',
	        '((0,0))', '((0.1,0.2))', '', '',
	        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
	INSERT INTO app.rare (tenant_id, id) VALUES (nullif(current_setting('cell.tenant'), '')::bigint, 3);
	INSERT INTO app.search (tenant_id, id, q, qs)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, 1, 'fat:A & ( rat:*B | !cat ) & sat <2> mat', '{a,NULL}'), (nullif(current_setting('cell.tenant'), '')::bigint, 2, '', '{""}');
	INSERT INTO app.bucket (tenant_id, id, v)
	SELECT nullif(current_setting('cell.tenant'), '')::bigint, pg_catalog.gen_random_uuid(), n FROM pg_catalog.generate_series(1, 20) n;
	INSERT INTO app.place (tenant_id, land, no)
	SELECT nullif(current_setting('cell.tenant'), '')::bigint, l, n FROM pg_catalog.unnest('{ch,li,de,at,""}'::text[]) l, pg_catalog.generate_series(7, 12) n;
	INSERT INTO app.nick (tenant_id, nick, mail, others, n)
	VALUES (nullif(current_setting('cell.tenant'), '')::bigint, 'Bob', 'Bob@x', '{A,b,NULL}', 1), (nullif(current_setting('cell.tenant'), '')::bigint, 'ÉMILE', NULL, '{}', 2);
	INSERT INTO app.counter (tenant_id, v) VALUES (nullif(current_setting('cell.tenant'), '')::bigint, 0);`
