"""Fine-tuning: from labelled files to a model folder that `sentiment score` can use."""
