"""The commands that the page suggests where a run lacks data, for people to complete."""

SFT = "nearer sft --data DATASET"
FINISH_SFT = "nearer sft --resume --out RUN"
LABEL_ROLLOUTS = "nearer sft --data DATASET --calibration.env ID"
IMPROVE = "nearer improve --run RUN --env ID"
AUDIT = "nearer improve --run RUN --env ID --audit-every 8"
EVAL_REWARD = "nearer eval-reward --checkpoint RUN --data DATASET --env ID"
ADD_STAGE_ONE = "nearer report STAGE_1_RUN STAGE_2_RUN"
