-- +goose Up
CREATE TABLE projects.projects (
    tenant_id   bigint           NOT NULL,
    id          text COLLATE "C" NOT NULL,
    name        text             NOT NULL,
    description text             NOT NULL DEFAULT '',
    version     bigint           NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at  timestamptz      NOT NULL DEFAULT now(),
    updated_at  timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE projects.tasks (
    tenant_id   bigint           NOT NULL,
    id          text COLLATE "C" NOT NULL,
    project_id  text COLLATE "C" NOT NULL,
    title       text             NOT NULL,
    description text             NOT NULL DEFAULT '',
    state       text             NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'doing', 'review', 'done')),
    version     bigint           NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at  timestamptz      NOT NULL DEFAULT now(),
    updated_at  timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects.projects (tenant_id, id)
);

-- A page of a project's tasks, its summary, and the check of the foreign key.
CREATE INDEX tasks_of_project ON projects.tasks (tenant_id, project_id, id);

-- What the consumer "activity" makes of the module's events: one row for each.
CREATE TABLE projects.activity (
    tenant_id bigint      NOT NULL,
    seq       bigint      NOT NULL CHECK (seq > 0),
    type      text        NOT NULL,
    subject   text        NOT NULL,
    at        timestamptz NOT NULL,
    event_id  text        NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

-- +goose Down
DROP TABLE projects.activity;
DROP TABLE projects.tasks;
DROP TABLE projects.projects;
