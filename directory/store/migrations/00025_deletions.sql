-- +goose Up

-- A tenant that is deleted, for good: when, and since when its cells keep what they have
-- for the grace, which is the directory's to say and is not recorded. The epoch is the tombstones'; a cell that knows of a greater one raises it.
CREATE TABLE directory.deletions (
	tenant     bigint PRIMARY KEY REFERENCES directory.tenants,
	epoch      bigint NOT NULL CHECK (epoch > 0),
	deleted_at timestamptz NOT NULL DEFAULT now(),
	kept_from  timestamptz NOT NULL DEFAULT now(),
	hurried_at timestamptz -- an operator has ended the grace
);

-- Which cells have something of it still. A row goes when its cell has purged; one of a
-- cell that is retired stays, for the cell itself: nobody else waits for it.
CREATE TABLE directory.deletion_cells (
	cell   text COLLATE "C" NOT NULL REFERENCES directory.cells,
	tenant bigint NOT NULL REFERENCES directory.deletions,
	told   boolean NOT NULL DEFAULT false, -- the cell has said so; the record itself does not know
	PRIMARY KEY (cell, tenant)
);
CREATE INDEX deletion_cells_tenant ON directory.deletion_cells (tenant, cell);

-- Tenants that were deleted before cells purged: their grace begins with this.
INSERT INTO directory.deletions (tenant, epoch, deleted_at)
SELECT t.id, t.epoch,
       coalesce((SELECT max(a.at) FROM directory.audit a WHERE a.subject = 'tenant/' || t.id AND a.action = 'tenant.delete'), now())
  FROM directory.tenants t
 WHERE t.state = 'deleted';

-- Watches over them have nothing left to take back.
INSERT INTO directory.deletion_cells (cell, tenant)
SELECT t.cell, t.id FROM directory.tenants t WHERE t.state = 'deleted'
UNION
SELECT m.source, m.tenant
  FROM directory.moves m
  JOIN directory.tenants t ON t.id = m.tenant AND t.state = 'deleted'
 WHERE m.phase = 'watching';
UPDATE directory.moves m
   SET previous = 'watching', phase = 'completed', changed_at = now(), lease = lease + 1, holder = '', leased_until = NULL, error = 'the tenant was deleted'
  FROM directory.tenants t
 WHERE t.id = m.tenant AND t.state = 'deleted' AND m.phase = 'watching';

-- A process of the release before deletes without a word of this; ours come first.
-- +goose StatementBegin
CREATE FUNCTION directory.note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO directory.deletions (tenant, epoch) VALUES (NEW.id, NEW.epoch) ON CONFLICT DO NOTHING;
	IF FOUND THEN
		INSERT INTO directory.deletion_cells (cell, tenant)
		SELECT NEW.cell, NEW.id
		UNION
		SELECT m.source, m.tenant FROM directory.moves m
		 WHERE m.tenant = NEW.id AND m.phase = 'watching';
		UPDATE directory.moves m
		   SET previous = 'watching', phase = 'completed', changed_at = now(), lease = lease + 1, holder = '', leased_until = NULL, error = 'the tenant was deleted'
		 WHERE m.tenant = NEW.id AND m.phase = 'watching';
	END IF;
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER note_deletion AFTER UPDATE OF state ON directory.tenants
	FOR EACH ROW WHEN (NEW.state = 'deleted' AND OLD.state <> 'deleted') EXECUTE FUNCTION directory.note_deletion();

-- +goose Down
DROP TRIGGER note_deletion ON directory.tenants;
DROP FUNCTION directory.note_deletion();
DROP TABLE directory.deletion_cells, directory.deletions;
