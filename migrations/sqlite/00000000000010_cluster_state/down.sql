DROP TABLE cluster_state;
